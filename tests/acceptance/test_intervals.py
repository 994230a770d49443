"""Candles of all intervals through the command: whole, and each in its own folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.funding import folders
from tests.expected import Wanted
from tests.harness import Fleet


@pytest.fixture(autouse=True)
def _nothing_logged(fleet: Fleet) -> None:
    fleet.forget_calls()


def newest_day() -> tuple[str, str]:
    """Return the begin and the end of the newest day that surely has its file."""
    today = datetime.now(UTC).date()
    return str(today - timedelta(days=3)), str(today - timedelta(days=2))


def together(fleet: Fleet, all_wanted: list[Wanted]) -> None:
    """Have them downloaded at the same time, by files alone; each lake is whole."""
    runs = [fleet.start("download", "--json", *wanted.arguments) for wanted in all_wanted]
    for run in runs:
        done = run.result()
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        assert (told["requests"], told["klines"]) == (0, told["klines_from_files"])
    for wanted in all_wanted:
        wanted.assert_held(fleet)


@pytest.mark.parametrize(
    ("market", "symbol"), [("spot", "ETHUSDT"), ("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")]
)
def test_candles_of_days_weeks_and_months_are_whole_from_files(
    fleet: Fleet, market: str, symbol: str
) -> None:
    """Two years, over the change to microseconds.

    Only 1d has daily files, and 1M is spelled 1mo.
    """
    range_ = ("2023-07-01", "2025-07-01")
    all_wanted = [
        Wanted(market, (symbol,), *range_, interval, "archive")
        for interval in ("1d", "3d", "1w", "1M")
    ]
    together(fleet, all_wanted)
    spelled = {
        f"market={market}/kind=klines/interval={one}/symbol={symbol}"
        for one in ("1d", "3d", "1w", "1mo")
    }
    assert spelled <= folders(fleet)
    all_wanted[-1].assert_nothing_is_missing(fleet)


def test_candles_of_minutes_and_hours_are_whole_from_files(fleet: Fleet) -> None:
    intervals = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h")
    symbols = (("spot", "BTCUSDT"), ("um", "ETHUSDT"), ("cm", "ETHUSD_PERP"))
    by_turns = [(*symbols[at % 3], interval) for at, interval in enumerate(intervals)]
    range_ = ("2024-12-30", "2025-02-02")
    together(
        fleet,
        [
            Wanted(market, (symbol,), *range_, interval, "archive")
            for market, symbol, interval in by_turns
        ],
    )


def test_a_day_of_seconds_is_whole_from_its_file(fleet: Fleet) -> None:
    day = Wanted("spot", ("BTCUSDT",), *newest_day(), "1s", "archive")
    told = fleet.download(*day.arguments)
    assert (told["klines_from_files"], told["files"]) == (86_400, 1)
    day.assert_held(fleet)
    day.assert_nothing_is_missing(fleet)

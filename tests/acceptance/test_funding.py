"""Funding events through the command: each is held once, and the limit of calls is kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from deploy.simulator.funding import is_four_hourly
from deploy.simulator.markets import Market
from deploy.simulator.symbols import find
from tests.acceptance.funding import Funding, folders
from tests.expected import Wanted, lake_frame, ms_of, truth_frame
from tests.harness import Fleet
from tests.processes import until

#: What one address may ask for fundings: so many calls in five minutes, of which the fleet takes a
#: fifth a minute.
CALLS_OF_FIVE_MINUTES, CALLS_OF_A_MINUTE = 500, 100
HOUR_MS = 3_600_000


#: Ten symbols of five years are more calls than REST is asked for at once, so that files are taken
#: as well.
FUNDED = (
    "BTCUSDT",
    "ETHUSDT",
    "BNBUSDT",
    "SOLUSDT",
    *(f"SIM{number:03d}USDT" for number in range(1, 7)),
)


@pytest.fixture(autouse=True)
def _nothing_logged(fleet: Fleet) -> None:
    fleet.forget_calls()


@pytest.fixture(autouse=True, scope="module")
def _no_five_minutes_hold_too_many_calls(fleet: Fleet, second: Fleet) -> Iterator[None]:
    yield
    for one in (fleet, second):
        assert all(
            stretch["calls"] <= CALLS_OF_FIVE_MINUTES for stretch in one.exchange.books()["funding"]
        )


def last_hour() -> str:
    """Return the full hour before the last one, whose events are settled.

    A second run then requests the same range.
    """
    now_ms = time.time_ns() // 1_000_000
    return datetime.fromtimestamp((now_ms // HOUR_MS - 1) * HOUR_MS / 1000, UTC).strftime(
        "%Y-%m-%dT%H:%M"
    )


def test_every_funding_event_since_2022_is_held_once_from_files_and_the_last_month_from_rest(
    fleet: Fleet,
) -> None:
    symbols = {name: find(Market.USD_M, name) for name in FUNDED}
    assert len({is_four_hourly(instrument) for instrument in symbols.values() if instrument}) == 2
    wanted = Funding("um", FUNDED, "2022-01-01", last_hour(), "auto")
    told = fleet.download(*wanted.arguments)
    assert told["failed"] == {}
    # Files end with the newest month that is out for all.
    months = [
        call["path"].removesuffix(".zip")[-7:]
        for call in fleet.exchange.files()
        if call["path"].endswith("zip")
    ]
    assert Counter(months).most_common()[-1][1] == len(FUNDED)
    last = datetime.fromisoformat(f"{max(months)}-01")
    ends = datetime(last.year + last.month // 12, last.month % 12 + 1, 1, tzinfo=UTC)
    wanted.assert_held(fleet, files_until=ends.strftime("%Y-%m-%d"))
    assert 0 < len(fleet.exchange.calls()) == told["requests"]
    assert folders(fleet, "market=um/kind=fundingRate/") >= {
        f"market=um/kind=fundingRate/symbol={one}" for one in FUNDED
    }
    four = (
        wanted.held(fleet, "BTCUSDT")["calc_time"]
        .dt.truncate("1h")
        .diff()
        .drop_nulls()
        .dt.total_hours()
    )
    assert set(four) == {8, 4}
    wanted.assert_nothing_is_missing(fleet)


@pytest.mark.parametrize(
    ("source", "symbol"), [("archive", "BTCUSD_PERP"), ("rest", "ETHUSD_PERP")]
)
def test_fundings_of_coin_m_are_whole_whichever_the_source(
    fleet: Fleet, source: str, symbol: str
) -> None:
    counted = fleet.exchange.books()["funding"]
    end = "2025-11-01" if source == "archive" else last_hour()
    wanted = Funding("cm", (symbol,), "2022-01-01", end, source)
    told = fleet.download(*wanted.arguments)
    assert told["failed"] == {}
    assert (told["files"] > 0, told["requests"] > 0) == (source == "archive", source == "rest")
    wanted.assert_held(fleet, files_until=end if source == "archive" else "2022-01-01")
    assert fleet.exchange.books()["funding"] == counted, (
        "fundings of COIN-M cost weight, not calls of USD-M's limit"
    )
    wanted.assert_nothing_is_missing(fleet)


def test_fundings_to_now_again_and_again_hold_no_event_twice(fleet: Fleet) -> None:
    """Without an end, each run requests only the time since the last one, in one call."""
    arguments = (
        "--market",
        "um",
        "--kind",
        "fundingRate",
        "--symbols",
        "SIM009USDT",
        "--start",
        "2026-01-01",
    )
    assert fleet.download(*arguments)["requests"] > 1
    for _ in range(2):
        assert fleet.download(*arguments)["requests"] <= 1
    held = lake_frame(fleet.store_url, "um", "SIM009USDT", "events", "fundingRate")
    truth = truth_frame(
        "um", "SIM009USDT", "events", ms_of("2026-01-01"), ms_of("2100-01-01"), "fundingRate"
    )
    # One that is only seconds old is left for later.
    assert held.height in (truth.height, truth.height - 1)
    assert held.drop("funding_interval_hours").equals(
        truth.drop("funding_interval_hours").head(held.height)
    )


def test_fundings_by_rest_alone_wait_for_the_limit_of_calls_instead_of_overrunning_it(
    second: Fleet,
) -> None:
    """Eighteen symbols are some 190 calls, more than one minute allows.

    The funding lane then waits, and other lanes go on.
    """
    second.forget_calls()
    symbols = (*FUNDED, *(f"SIM{number:03d}USDT" for number in range(7, 15)))
    run = second.start(
        "download", *Funding("um", symbols, "2022-01-01", last_hour(), "rest").arguments
    )
    until(
        "a minute's calls are made",
        lambda: len(second.exchange.calls()) > 0.9 * CALLS_OF_A_MINUTE,
        within_s=180,
    )
    other = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-01-02", kind="markPriceKlines")
    second.download(*other.arguments)
    assert lake_frame(second.store_url, "um", "BTCUSDT", "1m", other.kind).equals(
        other.truth("BTCUSDT")
    )
    asked = [call for call in second.exchange.calls() if call["kind"] == "fundingRate"]
    # A call may be taken from one minute's part and arrive in the next minute: none is had twice.
    minutes = {call["at_ms"] // 60_000 for call in asked}
    assert len(asked) <= CALLS_OF_A_MINUTE * (max(minutes) - min(minutes) + 1)
    assert all(call["status"] == 200 for call in asked if call["status"])
    assert all(stretch["refused"] == 0 for stretch in second.exchange.books()["funding"])
    run.interrupt()
    run.result()

"""The catalog's reports of real key lists and exchangeInfo agree with independent findings."""

from __future__ import annotations

import csv
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from klinefleet.workers.binance.exchange_info import ENDED
from tests.expected import RECORDED
from tests.harness import KLINES
from tests.real_bucket import INFO, RealBucket, first_periods, serving
from tests.servers import RedisServer

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason=f"no recorded data at {RECORDED}")

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Reported:
    """What the command wrote, and what it was made of."""

    bucket: RealBucket
    folder: Path
    calls: dict[str, int]

    def rows(self, name: str) -> Rows:
        return read(self.folder / f"{name}.csv")

    def dates(self, market: str) -> dict[str, str]:
        return {
            row["symbol"]: row["earliest_date"] for row in self.rows(f"{market}_earliest_dates")
        }

    def info(self, market: str) -> dict[str, dict[str, Any]]:
        """Return exchangeInfo's entries by symbol."""
        base = dict(zip(("spot", "um", "cm"), INFO, strict=True))[market]
        return {entry["symbol"]: entry for entry in self.bucket.info(base)["symbols"]}


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def recorded_dates(market: str) -> dict[str, str]:
    """Return what others recorded: symbol -> its first day in the archive."""
    rows = read(RECORDED / "vision_listing" / f"{market}_earliest_dates.csv")
    return {row["symbol"]: row["earliest_date"] for row in rows}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    folder, bucket = tmp_path_factory.mktemp("real-catalog"), RealBucket(RECORDED)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KLINES_")}
    with serving(bucket) as url, RedisServer(folder / "redis") as redis:
        env = clean | dict.fromkeys(
            ("KLINES_SPOT_URL", "KLINES_UM_URL", "KLINES_CM_URL", "KLINES_ARCHIVE_URL"), url
        )
        env |= {
            "KLINES_ARCHIVE_LIST_URL": f"{url}/archive-list",
            "KLINES_STORE_URL": str(folder / "store"),
        }
        env |= {"KLINES_REDIS_URL": redis.url}

        def klines(*arguments: str) -> None:
            done = subprocess.run(
                [str(KLINES), *arguments],
                cwd=folder,
                env=env,
                capture_output=True,
                text=True,
                timeout=400,
            )
            assert done.returncode == 0, done.stderr

        # Any download has the pool's limit known; before that, 60 a minute are spent.
        klines(
            *("download", "--dry-run", "--market", "spot", "--symbols", "BTCUSDT"),
            *("--start", "2024-01-01", "--end", "2024-01-02", "--source", "rest"),
        )
        klines("catalog", "report", "--to", str(folder / "reports"))
        yield Reported(bucket, folder / "reports", dict(bucket.calls))


def test_no_recorded_spot_symbol_begins_on_another_day(reported: Reported) -> None:
    dates, recorded = reported.dates("spot"), recorded_dates("spot")
    listed = first_periods(reported.bucket.spot_days)
    assert {symbol: dates.get(symbol) for symbol in listed} == listed
    known = [symbol for symbol in listed if symbol in recorded]
    assert (len(known), len(listed) - len(known)) == (434, 216)
    assert {symbol: dates[symbol] for symbol in known} == {
        symbol: recorded[symbol] for symbol in known
    }


def test_no_recorded_usd_m_symbol_begins_in_another_month_but_where_days_came_before_months(
    reported: Reported,
) -> None:
    dates, recorded = reported.dates("um"), recorded_dates("um")
    listed = first_periods(reported.bucket.um_months)
    assert {symbol: dates.get(symbol) for symbol in listed} == {
        s: f"{month}-01" for s, month in listed.items()
    }
    known = [symbol for symbol in listed if symbol in recorded]
    assert len(listed) - len(known) == 287
    other = {s: (recorded[s], dates[s]) for s in known if dates[s][:7] != recorded[s][:7]}
    assert other == dict.fromkeys(("BTCUSDT", "ETHUSDT", "BCHUSDT"), ("2019-12-31", "2020-01-01"))
    assert len(known) - len(other) == 442


def test_every_row_tells_its_intervals_and_its_first_candle(reported: Reported) -> None:
    spot, um = (
        {row["symbol"]: row for row in reported.rows(f"{m}_earliest_dates")} for m in ("spot", "um")
    )
    info = reported.info("um")
    for symbol, day in reported.bucket.first_days.items():
        row = spot[symbol]
        assert (row["market"], row["available_intervals"]) == ("spot", "1m")
        assert row["first_candle"][:10] == day
    listed = {
        symbol: datetime.fromtimestamp(told["onboardDate"] / 1000, UTC)
        for symbol, told in info.items()
    }
    assert {s: um[s]["first_candle"] for s in listed} == {
        s: f"{at:%Y-%m-%dT%H:%M}" for s, at in listed.items()
    }
    everything = reported.rows("all_markets_earliest_dates")
    of_markets = [
        row for market in ("cm", "spot", "um") for row in reported.rows(f"{market}_earliest_dates")
    ]
    assert everything == of_markets


def test_symbols_that_the_archive_here_has_no_files_of_begin_with_their_listing(
    reported: Reported,
) -> None:
    dates, recorded = reported.dates("cm"), recorded_dates("cm")
    assert set(dates) == set(reported.info("cm"))
    # Archive files begin on the day of the listing or later.
    known = [symbol for symbol in dates if symbol in recorded]
    assert len(known) >= 15
    assert all(dates[symbol] <= recorded[symbol] for symbol in known)


def test_symbols_of_spot_and_usd_m_are_those_that_both_recorded_reports_have(
    reported: Reported,
) -> None:
    rows = reported.rows("spot_um_symbols")
    assert len({(row["base"], row["quote"]) for row in rows}) == len(rows)
    pairs = {(row["spot"], row["um"]) for row in rows}
    served = set(first_periods(reported.bucket.spot_days)) & set(
        first_periods(reported.bucket.um_months)
    )
    expected = served & set(recorded_dates("spot")) & set(recorded_dates("um"))
    assert (len(served), len(expected)) == (455, 352)
    assert {(symbol, symbol) for symbol in expected} <= pairs
    odd = [row for row in rows if not row["spot"] == row["um"] == row["base"] + row["quote"]]
    assert odd == []
    # Beside the lists only exchangeInfo tells of symbols.
    known = set(reported.info("spot")) | set(first_periods(reported.bucket.spot_days))
    known &= set(reported.info("um")) | set(first_periods(reported.bucket.um_months))
    assert {spot for spot, _ in pairs} == known


def test_symbols_of_all_three_markets_are_those_that_all_recorded_reports_have(
    reported: Reported,
) -> None:
    rows = reported.rows("spot_um_cm_symbols")
    told = {row["base"]: (row["spot"], row["um"], row["cm"]) for row in rows}
    assert len(told) == len(rows)
    both = {row["base"] for row in reported.rows("spot_um_symbols") if row["quote"] == "USDT"}
    perpetuals = {s.removesuffix("USD_PERP") for s in reported.info("cm") if s.endswith("USD_PERP")}
    assert told == {
        base: (f"{base}USDT", f"{base}USDT", f"{base}USD_PERP") for base in both & perpetuals
    }
    assert len(told) == 18
    in_all = [
        base
        for base in told
        if f"{base}USDT" in recorded_dates("spot") and f"{base}USDT" in recorded_dates("um")
    ]
    assert {base for base in in_all if f"{base}USD_PERP" in recorded_dates("cm")} == set(told)


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
def test_each_symbol_was_asked_once_for_its_first_candle_and_the_ended_ones_for_their_newest(
    reported: Reported, market: str
) -> None:
    path = dict(zip(("spot", "um", "cm"), INFO, strict=True))[market]
    told, now_ms = reported.info(market).values(), time.time_ns() // 1_000_000
    ended = [
        one
        for one in told
        if one.get("status", one.get("contractStatus")) in ENDED
        or one.get("deliveryDate", now_ms) < now_ms
    ]
    assert reported.calls[f"{path}/klines"] == len(told) + len(ended)

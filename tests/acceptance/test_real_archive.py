"""Real recorded files of the archive, served again: they come out of the lake row for row."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.acceptance.test_recorded_data import CM, SPOT, UM, recorded
from tests.expected import RECORDED, lake_frame, ms_of
from tests.harness import Fleet

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason=f"no recorded data at {RECORDED}")

SPOT_ZIP = RECORDED / "spot/klines_1m/official_zips/ETHUSDT-1m-2022-08-14.zip"
UM_ZIP = RECORDED / "um/official_zips/BTCUSDT-1m-2022-09-05.zip"
CM_ZIP = CM / "BTCUSD_PERP-1m-2022-10-24.zip"
#: (market, symbol, recorded files, start, end): whole periods without a missing minute, each of
#: another make.
WHOLE = [
    ("spot", "ETHUSDT", [SPOT_ZIP], "2022-08-14", "2022-08-15"),
    ("um", "BTCUSDT", [UM_ZIP], "2022-09-05", "2022-09-06"),
    ("cm", "BTCUSD_PERP", [CM_ZIP], "2022-10-24", "2022-10-25"),
    ("um", "NEARUSDT", [UM / "NEARUSDT-1m-2025-09.csv.gz"], "2025-09-01", "2025-10-01"),
    ("spot", "BTCUSDT", sorted(SPOT.glob("*-2024-12-*.gz")), "2024-12-16", "2025-01-01"),
]
#: The same with so much time after them, of which nothing is recorded, that `auto` does not leave
#: all of it to REST.
LONG = [
    ("spot", "ETHUSDT", [SPOT_ZIP], "2022-08-14", "2022-11-01"),
    ("um", "BTCUSDT", [UM_ZIP], "2022-09-05", "2022-10-20"),
    ("cm", "BTCUSD_PERP", [CM_ZIP], "2022-10-24", "2022-12-10"),
    (
        "um",
        "NEARUSDT",
        [UM / f"NEARUSDT-1m-2025-{month}.csv.gz" for month in ("02", "04", "09")],
        "2025-02-01",
        "2025-10-01",
    ),
]
#: From the first candle ever to the last recorded day: everything recorded of BTCUSDT on spot lies
#: in it.
FIRST, FIRST_CANDLE, LAST = "2017-08-17", "2017-08-17T04:00", "2025-12-01"
MINUTE_MS, DAY_MS = 60_000, 86_400_000


def arguments(market: str, symbol: str, start: str, end: str, source: str) -> tuple[str, ...]:
    what = ("--market", market, "--symbols", symbol, "--interval", "1m", "--source", source)
    return (*what, "--start", start, "--end", end)


def zips(fleet: Fleet) -> set[str]:
    """Return the names of the zips that were served."""
    calls = (call for call in fleet.exchange.files() if call["status"] == 200)
    return {Path(call["path"]).stem for call in calls if call["path"].endswith(".zip")}


@cache
def all_spot_days() -> tuple[list[Path], pl.DataFrame]:
    files = sorted(SPOT.glob("*.csv.gz"))
    return files, recorded(files, FIRST, LAST)


def outages(rows: pl.DataFrame) -> list[tuple[int, int]]:
    """Return the times [start, end) that are missing between two rows of one day, ms."""
    opens = rows["open_time"].dt.timestamp("ms").to_list()
    steps = pairwise(opens)
    of_one_day = ((at, next_) for at, next_ in steps if at // DAY_MS == next_ // DAY_MS)
    return [(at + MINUTE_MS, next_) for at, next_ in of_one_day if next_ - at > MINUTE_MS]


@pytest.fixture
def fleet(replaying_fleet: Fleet) -> Fleet:
    """The fleet with a lake that holds nothing."""
    replaying_fleet.empty()
    return replaying_fleet


def test_whole_files_with_and_without_a_header_are_held_as_published_and_cost_no_weight(
    fleet: Fleet,
) -> None:
    for market, symbol, files, start, end in WHOLE:
        fleet.forget_calls()
        told = fleet.download(*arguments(market, symbol, start, end, "archive"))
        published = recorded(files, start, end)
        assert published.height == (ms_of(end) - ms_of(start)) // MINUTE_MS
        held = lake_frame(fleet.store_url, market, symbol, "1m")
        assert held.columns == published.columns
        assert held.equals(published), f"{market} {symbol}"
        assert told["klines_from_files"] == published.height
        assert (told["files"], told["klines_from_rest"], told["failed"]) == (len(files), 0, {})
        assert zips(fleet) == {
            file.name.removesuffix(".zip").removesuffix(".csv.gz") for file in files
        }
        # Of a spot symbol only REST tells the first candle.
        assert all(call["limit"] == "1" for call in fleet.exchange.calls()), (
            "REST was asked for rows"
        )


def test_without_rest_every_recorded_row_is_held_and_every_hole_in_the_files_has_one_witness(
    fleet: Fleet,
) -> None:
    files, published = all_spot_days()
    done = fleet.klines("download", "--json", *arguments("spot", "BTCUSDT", FIRST, LAST, "archive"))
    assert done.returncode == 1, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["state"] == "incomplete"
    assert told["klines_from_files"] == published.height
    held = lake_frame(fleet.store_url, "spot", "BTCUSDT", "1m")
    assert held.height == published.height
    assert held.equals(published)
    assert told["files"] == len(files) == len(zips(fleet))
    # What failed is all the time that no file is published of, once, and no more.
    failed = [
        tuple(ms_of(moment) for moment in name.rpartition(" ")[2].split(".."))
        for name in told["failed"]
    ]
    absent_ms = sum(end - start for start, end in outages(published))
    assert sum(end - start for start, end in failed) + held.height * MINUTE_MS + absent_ms == ms_of(
        LAST
    ) - ms_of(FIRST_CANDLE)
    assert all("no archive file published" in reason for reason in told["failed"].values())
    # Only REST could tell that the first file's day began before the first candle.
    absent_ms += ms_of(FIRST_CANDLE) - ms_of(FIRST)
    assert told["rows_absent"] == told["rows_absent_by_one_witness"] == absent_ms // MINUTE_MS


def test_with_rest_every_recorded_row_is_held_and_the_holes_in_the_files_are_asked_about_once(
    fleet: Fleet,
) -> None:
    files, published = all_spot_days()
    told = fleet.download(*arguments("spot", "BTCUSDT", FIRST, LAST, "auto"))
    held = lake_frame(fleet.store_url, "spot", "BTCUSDT", "1m")
    assert held.height == published.height
    assert held.equals(published)
    assert (told["state"], told["failed"], told["files"]) == ("complete", {}, len(files))
    assert told["klines_from_files"] == published.height
    assert len(zips(fleet)) == len(files)
    # The cut close times came from the files as well.
    assert (held["close_time"] - held["open_time"]).dt.total_milliseconds().ne(59_999).sum() >= 10
    asked = [
        (int(call["start"]), int(call["end"])) for call in fleet.exchange.calls() if call["end"]
    ]
    for start, end in outages(published):
        assert [first for first, last in asked if first <= start and end - 1 <= last], (
            "nobody was asked about a hole"
        )
    assert not fleet.exchange.overspent()
    fleet.assert_fetches_nothing(*arguments("spot", "BTCUSDT", FIRST, LAST, "auto"))


def test_auto_takes_original_files_of_every_market_as_they_were_published(fleet: Fleet) -> None:
    for market, symbol, files, start, end in LONG:
        fleet.exchange.ask("DELETE", "archive")
        told = fleet.download(*arguments(market, symbol, start, end, "auto"))
        published = recorded(files, start, end)
        held = lake_frame(fleet.store_url, market, symbol, "1m")
        assert held.height == published.height
        assert held.equals(published), f"{market} {symbol}"
        assert told["klines_from_files"] == published.height
        assert told["files"] == len(zips(fleet)) == len(files)
        assert told["failed"] == {}
    assert not fleet.exchange.overspent()

"""Real recorded candles, served again: the lake holds them as they were published."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.schema import schema_of
from tests.expected import RECORDED, lake_frame, ms_of
from tests.harness import Fleet

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason=f"no recorded data at {RECORDED}")

SPOT = RECORDED / "spot/klines_1m/BTCUSDT_daily_csv_gz"
UM = RECORDED / "um/klines_1m_csv_gz"
CM = RECORDED / "cm/official_zips"

SPOT_RANGES = [
    # The first days of trading.
    ("2017-08-17", "2017-09-01"),
    # Outages: minutes are missing, and the last candle before one has its close time cut short.
    ("2017-09-06", "2017-09-08"),
    ("2017-12-04", "2017-12-05"),
    ("2018-01-04", "2018-01-06"),
    ("2018-06-26", "2018-06-29"),
    ("2018-07-04", "2018-07-06"),
    ("2020-02-19", "2020-02-21"),
    ("2020-12-21", "2020-12-23"),
    # The archive's change from milliseconds to microseconds.
    ("2024-12-16", "2025-01-16"),
    ("2025-02-01", "2025-03-01"),
]
UM_MONTHS = [
    ("ALGOUSDT", "2024-02", "2024-03"),
    ("AVAXUSDT", "2025-02", "2025-03"),
    ("FILUSDT", "2025-04", "2025-05"),
]
UM_MONTHS.append(("NEARUSDT", "2025-09", "2025-10"))


def rows_of(files: Iterator[Path] | list[Path]) -> Iterator[tuple[int | float, ...]]:
    """Yield the rows of recorded files, times in ms: parsed by hand, without a line of ours."""
    for file in files:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                text = archive.read(archive.namelist()[0]).decode()
        else:
            text = gzip.decompress(file.read_bytes()).decode()
        for row in csv.reader(text.splitlines()):
            if row[0].isdigit():
                opened, closed = (int(row[i]) // (1000 if len(row[i]) == 16 else 1) for i in (0, 6))
                prices = [float(field) for field in row[1:6]]
                yield (
                    opened,
                    *prices,
                    closed,
                    float(row[7]),
                    int(row[8]),
                    float(row[9]),
                    float(row[10]),
                )


def recorded(files: list[Path], start: str, end: str) -> pl.DataFrame:
    """Return what is recorded of a time, as the lake would hold it."""
    schema = schema_of(KLINES)
    plain = {name: pl.Int64() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    rows = sorted(row for row in rows_of(files) if ms_of(start) <= row[0] < ms_of(end))
    return pl.DataFrame(rows, schema=plain, orient="row").cast(dict(schema))


def days(start: str, end: str) -> list[Path]:
    """Return the files of the spot days in [start, end)."""
    return [
        file
        for file in sorted(SPOT.glob("*.csv.gz"))
        if start <= file.name[len("BTCUSDT-1m-") :][:10] < end
    ]


@pytest.fixture
def fleet(replaying_fleet: Fleet) -> Fleet:
    """The fleet with a lake that holds nothing."""
    replaying_fleet.empty()
    return replaying_fleet


def fetch(fleet: Fleet, market: str, symbol: str, start: str, end: str) -> None:
    fleet.download(
        "--market", market, "--symbols", symbol, "--interval", "1m", "--start", start, "--end", end
    )


def assert_nothing_is_wrong(fleet: Fleet) -> None:
    """What the exchange does itself, outages and odd close times, is no fault of the lake."""
    done = fleet.klines("verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["partitions"] > 0
    assert (told["faults"], told["unproved"]) == ([], 0)


def test_recorded_spot_days_with_outages_and_the_change_of_units_are_held_as_published(
    fleet: Fleet,
) -> None:
    for start, end in SPOT_RANGES:
        fetch(fleet, "spot", "BTCUSDT", start, end)
    published = pl.concat([recorded(days(start, end), start, end) for start, end in SPOT_RANGES])
    held = lake_frame(fleet.store_url, "spot", "BTCUSDT", "1m")
    assert held.height == published.height
    assert held.equals(published)
    # The cut close times are among them.
    assert (held["close_time"] - held["open_time"]).dt.total_milliseconds().ne(59_999).sum() >= 5
    assert_nothing_is_wrong(fleet)
    assert not fleet.exchange.overspent()
    fleet.exchange.ask("DELETE", "calls")
    for start, end in SPOT_RANGES:
        fetch(fleet, "spot", "BTCUSDT", start, end)
    assert fleet.exchange.calls() == []


def test_recorded_futures_months_are_held_as_published(fleet: Fleet) -> None:
    for symbol, month, following in UM_MONTHS:
        fetch(fleet, "um", symbol, f"{month}-01", f"{following}-01")
        published = recorded([UM / f"{symbol}-1m-{month}.csv.gz"], f"{month}-01", f"{following}-01")
        assert published.height > 40_000
        assert lake_frame(fleet.store_url, "um", symbol, "1m").equals(published), symbol
    fetch(fleet, "cm", "BTCUSD_PERP", "2022-10-24", "2022-10-25")
    published = recorded(list(CM.glob("BTCUSD_PERP-1m-2022-10-24.zip")), "2022-10-24", "2022-10-25")
    assert published.height == 1440
    assert lake_frame(fleet.store_url, "cm", "BTCUSD_PERP", "1m").equals(published)
    assert_nothing_is_wrong(fleet)
    assert fleet.exchange.refused(429) == 0
    assert not fleet.exchange.overspent()

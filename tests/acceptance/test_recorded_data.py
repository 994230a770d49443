"""Real recorded candles, replayed by the stand-in exchange, come out of the lake row for row."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pytest

from tests.harness import RECORDED, Fleet, lake_frame
from workers.model import DAY_MS, Kind
from workers.schema import SCHEMAS

FleetOf = Callable[..., Fleet]

pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded data is not on this machine")

SPOT = RECORDED / "spot" / "klines_1m" / "BTCUSDT_daily_csv_gz"
UM = RECORDED / "um" / "klines_1m_csv_gz"
CM = RECORDED / "cm" / "official_zips"


def recorded(files: Iterable[Path]) -> pl.DataFrame:
    """Return what the files hold, in the lake's columns: with or without a header, in ms or µs."""
    schema = SCHEMAS[Kind.KLINES]
    wire = {name: pl.Int64() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    frames = []
    for file in sorted(files):
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as packed:
                body = packed.read(packed.namelist()[0])
        else:
            body = gzip.decompress(file.read_bytes())
        body = body[body.index(b"\n") + 1 :] if body.startswith(b"open_time") else body
        frame = pl.read_csv(io.BytesIO(body), has_header=False, schema=wire | {"ignore": pl.String()}).drop("ignore")
        moments = pl.col("open_time", "close_time")
        frames.append(
            frame.with_columns(pl.when(moments > 10**14).then(moments // 1000).otherwise(moments)).cast(schema)
        )
    return pl.concat(frames).unique("open_time").sort("open_time")


@pytest.fixture
def fleet(fleet_of: FleetOf) -> Fleet:
    fleet = fleet_of("--replay", str(RECORDED))
    fleet.start_worker()
    return fleet


def days(start: str, end: str) -> tuple[str, ...]:
    return ("--interval", "1m", "--start", start, "--end", end)


@pytest.mark.parametrize(
    ("start", "end", "least"),
    [
        ("2017-08-17", "2017-09-01", 20_000),
        ("2017-12-18", "2017-12-20", 2_700),
        ("2018-01-04", "2018-01-06", 2_700),
        ("2018-06-26", "2018-06-29", 3_600),
        ("2018-07-04", "2018-07-06", 2_400),
        ("2024-12-16", "2025-01-16", 44_640),
        ("2025-09-01", "2025-10-01", 43_200),
    ],
)
def test_spot_outages_first_days_and_the_switch_of_units_survive(
    fleet: Fleet, start: str, end: str, least: int
) -> None:
    files = [f for f in SPOT.iterdir() if start <= f.name.removeprefix("BTCUSDT-1m-")[:10] < end]
    fleet.download("--market", "spot", "--symbols", "BTCUSDT", *days(start, end))
    truth = recorded(files)
    assert truth.height >= least
    held = lake_frame(Path(fleet.store_url), "spot", "BTCUSDT", "1m")
    assert held.equals(truth)


def test_four_usd_m_months_equal_the_recorded_files(fleet: Fleet) -> None:
    for symbol, month, after in [
        ("ALGOUSDT", "2024-02", "2024-03-01"),
        ("FILUSDT", "2025-04", "2025-05-01"),
        ("NEARUSDT", "2025-09", "2025-10-01"),
        ("LTCUSDT", "2026-02", "2026-03-01"),
    ]:
        fleet.download("--market", "um", "--symbols", symbol, *days(f"{month}-01", after))
        truth = recorded([UM / f"{symbol}-1m-{month}.csv.gz"])
        assert truth.height >= 28 * 1440
        assert lake_frame(Path(fleet.store_url), "um", symbol, "1m").equals(truth), symbol


def test_the_coin_m_day_equals_the_recorded_file(fleet: Fleet) -> None:
    fleet.download("--market", "cm", "--symbols", "BTCUSD_PERP", *days("2022-10-24", "2022-10-25"))
    truth = recorded([CM / "BTCUSD_PERP-1m-2022-10-24.zip"])
    assert truth.height == DAY_MS // 60_000
    assert lake_frame(Path(fleet.store_url), "cm", "BTCUSD_PERP", "1m").equals(truth)

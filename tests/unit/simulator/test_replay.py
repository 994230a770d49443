from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deploy.simulator.markets import RULES, Market
from deploy.simulator.moments import DAY_MS, MINUTE_MS, utc_ms
from deploy.simulator.refusals import Refusal
from deploy.simulator.replay import Replay, file_key
from deploy.simulator.windows import Window, read_question, window

RECORDED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
NOW_MS = utc_ms("2026-11-21 01:00:30")
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)

needs_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded files are not here"
)


def line(open_time: int, close_time: int, price: str) -> str:
    return f"{open_time},{price},{price},{price},{price},7.10,{close_time},70.0,3,1.0,10.00,0"


def page(
    replay: Replay, market: Market, symbol: str, now_ms: int = NOW_MS, **query: int
) -> list[list[Any]]:
    sent = {"symbol": symbol, "interval": "1m"} | {
        name: str(value) for name, value in query.items()
    }
    wanted = window(RULES[market], read_question(RULES[market], sent), now_ms)
    rows: list[list[Any]] = json.loads(
        replay.page(market, symbol, "1m", wanted, now_ms=now_ms).body
    )
    return rows


def test_files_of_every_kind_become_one_series(tmp_path: Path) -> None:
    spot = tmp_path / "spot" / "daily"
    spot.mkdir(parents=True)
    day_ms = utc_ms("2024-12-31 00:00")
    old = [
        line(day_ms + n * MINUTE_MS, day_ms + (n + 1) * MINUTE_MS - 1, f"1.{n}0") for n in (2, 0, 1)
    ]
    (spot / "ABCUSDT-1m-2024-12.csv.gz").write_bytes(
        gzip.compress("\n".join([HEADER, *old, ""]).encode())
    )
    new_us = (day_ms + DAY_MS) * 1_000
    new = [line(new_us, new_us + 59_999_999, "2.00"), line(new_us, new_us + 59_999_999, "3.00")]
    with zipfile.ZipFile(spot / "ABCUSDT-1m-2025-01-01.zip", "w") as archive:
        archive.writestr("ABCUSDT-1m-2025-01-01.csv", "\n".join(new))
    (spot / "ABCUSDT-1m-2025-01-01.zip.CHECKSUM").write_text("not a candle file")

    replay = Replay(tmp_path)
    rows = page(replay, Market.SPOT, "ABCUSDT", startTime=0)
    assert [row[0] for row in rows] == [
        day_ms,
        day_ms + MINUTE_MS,
        day_ms + 2 * MINUTE_MS,
        day_ms + DAY_MS,
    ]
    assert [row[1] for row in rows] == ["1.00", "1.10", "1.20", "3.00"]
    assert rows[-1][6] == day_ms + DAY_MS + MINUTE_MS - 1
    assert rows[-1][5:] == ["7.10", rows[-1][6], "70.0", 3, "1.0", "10.00", "0"]
    (instrument,) = replay.instruments(Market.SPOT)
    assert (instrument.name, instrument.base, instrument.quote) == ("ABCUSDT", "ABC", "USDT")
    assert instrument.listed_ms == utc_ms("2024-12-01 00:00")
    assert replay.instruments(Market.USD_M) == []


def test_a_symbol_nobody_recorded_is_unknown_and_an_interval_empty(tmp_path: Path) -> None:
    folder = tmp_path / "um"
    folder.mkdir()
    (folder / "ABCUSDT-1h-2024-12.csv.gz").write_bytes(gzip.compress(b""))
    replay = Replay(tmp_path)
    assert page(replay, Market.USD_M, "ABCUSDT") == []
    with pytest.raises(Refusal, match="Invalid symbol"):
        page(replay, Market.SPOT, "ABCUSDT")


def test_a_folder_without_candles_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no candle file"):
        Replay(tmp_path)


def test_names_tell_the_series(tmp_path: Path) -> None:
    assert file_key(Path("cm/x/BTCUSD_PERP-1mo-2024-02.zip"), tmp_path) == (
        Market.COIN_M,
        "BTCUSD_PERP",
        "1M",
    )
    assert file_key(Path("cm/BTCUSD_261225-1d-2024-02-03.csv.gz"), tmp_path) == (
        Market.COIN_M,
        "BTCUSD_261225",
        "1d",
    )
    assert file_key(Path("BTCUSDT-1m-2024-02.zip"), tmp_path / "um") == (
        Market.USD_M,
        "BTCUSDT",
        "1m",
    )
    assert file_key(Path("um/BTCUSDT-metrics-2024-02-03.zip"), tmp_path) is None


@pytest.fixture(scope="module")
def recorded() -> Replay:
    return Replay(RECORDED)


@needs_recordings
def test_recorded_outages_and_cut_candles_are_served_as_they_were(recorded: Replay) -> None:
    start_ms = utc_ms("2018-01-04 00:00")
    rows = page(
        recorded,
        Market.SPOT,
        "BTCUSDT",
        startTime=start_ms,
        endTime=start_ms + DAY_MS - 1,
        limit=1_000,
    )
    assert rows[180][0] == utc_ms("2018-01-04 03:00")
    assert rows[180][6] == 1515034814838
    assert rows[181][0] == utc_ms("2018-01-04 05:06")


@needs_recordings
def test_recorded_microseconds_are_answered_in_milliseconds(recorded: Replay) -> None:
    start_ms = utc_ms("2024-12-31 23:58")
    rows = page(recorded, Market.SPOT, "BTCUSDT", startTime=start_ms, limit=4)
    assert [row[0] for row in rows] == [start_ms + n * MINUTE_MS for n in range(4)]
    assert [row[6] for row in rows] == [start_ms + (n + 1) * MINUTE_MS - 1 for n in range(4)]


@needs_recordings
def test_every_recorded_row_is_served_unchanged(recorded: Replay) -> None:
    path = next(RECORDED.rglob("BTCUSD_PERP-1m-2022-10-24.zip"))
    with zipfile.ZipFile(path) as archive:
        lines = list(csv.reader(io.StringIO(archive.read(archive.namelist()[0]).decode())))[1:]
    start_ms = int(lines[0][0])
    rows = page(
        recorded,
        Market.COIN_M,
        "BTCUSD_PERP",
        startTime=start_ms,
        endTime=start_ms + DAY_MS - 1,
        limit=1_500,
    )
    assert [[str(field) for field in row[:11]] for row in rows] == [row[:11] for row in lines]
    newest = page(
        recorded,
        Market.COIN_M,
        "BTCUSD_PERP",
        startTime=start_ms,
        endTime=start_ms + DAY_MS - 1,
        limit=10,
    )
    assert newest == rows[-10:]
    assert (
        page(
            recorded,
            Market.COIN_M,
            "BTCUSD_PERP",
            startTime=start_ms - DAY_MS,
            endTime=start_ms - 1,
        )
        == []
    )
    empty = recorded.page(
        Market.COIN_M, "BTCUSD_PERP", "1m", Window(start_ms, start_ms - 1, 10, True), now_ms=NOW_MS
    )
    assert empty.rows == 0

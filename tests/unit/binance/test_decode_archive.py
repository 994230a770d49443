from __future__ import annotations

import csv
import gzip
import io
import random
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from klinefleet.workers.binance.decode import decode_archive
from klinefleet.workers.domain.errors import ArchiveConflict, ArchiveDamaged
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.kinds.premium_index_klines import PREMIUM_INDEX_KLINES
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.domain.schema import schema_of
from klinefleet.workers.domain.timestamps import MINUTE_MS, utc_ms
from tests.unit.helpers.klines import JANUARY_MS, times_of

RECORDED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
needs_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded files are not here"
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate"
PRICES = [MARK_PRICE_KLINES, INDEX_PRICE_KLINES, PREMIUM_INDEX_KLINES]


def line(
    minute: int, *, price: str = "42000.10000000", in_us: bool = False, count: str = "17"
) -> str:
    """One candle of January 2024 as the archive spells it."""
    opens, closes = JANUARY_MS + minute * MINUTE_MS, JANUARY_MS + (minute + 1) * MINUTE_MS - 1
    if in_us:
        opens, closes = opens * 1000, closes * 1000 + 999
    return (
        f"{opens},{price},42001.2,-0.00000001,42000.3,1.5,{closes},63000.45,{count},0.7,29400.2,0"
    )


def decoded(*lines: str, kind: Kind = KLINES, end: str = "\n") -> pl.DataFrame:
    return decode_archive(kind, "".join(one + end for one in lines).encode())


def minutes_of(frame: pl.DataFrame) -> list[int]:
    return [(at - JANUARY_MS) // MINUTE_MS for at in times_of(frame)]


def test_every_column_lands_under_its_own_name() -> None:
    got = decoded(f"{JANUARY_MS},1.5,2.5,0.25,2.0,10.5,{JANUARY_MS + 59_999},21.5,7,4.5,9.5,0")
    assert got.schema == schema_of(KLINES)
    opens = datetime(2024, 1, 1, tzinfo=UTC)
    closes = opens + timedelta(milliseconds=59_999)
    assert got.rows() == [(opens, 1.5, 2.5, 0.25, 2.0, 10.5, closes, 21.5, 7, 4.5, 9.5)]


@pytest.mark.parametrize("header", [[], [HEADER]])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_header_line_is_no_row_and_its_absence_costs_none(header: list[str], end: str) -> None:
    assert minutes_of(decoded(*header, line(0), line(1), line(2), end=end)) == [0, 1, 2]


@pytest.mark.parametrize("header", ["", HEADER + "\n"])
def test_a_last_line_without_its_newline_is_a_row(header: str) -> None:
    got = decode_archive(KLINES, f"{header}{line(0)}\n{line(1)}".encode())
    assert minutes_of(got) == [0, 1]


@pytest.mark.parametrize("kind", list(KINDS.values()), ids=str)
@pytest.mark.parametrize("text", ["", HEADER, HEADER + "\n"])
def test_a_file_without_rows_is_an_empty_frame_of_the_lakes_columns(kind: Kind, text: str) -> None:
    got = decode_archive(kind, text.encode())
    assert got.is_empty()
    assert got.schema == schema_of(kind)


def test_microseconds_become_the_milliseconds_they_stand_in() -> None:
    in_ms, in_us = decoded(line(0), line(1)), decoded(line(0, in_us=True), line(1, in_us=True))
    assert_frame_equal(in_us, in_ms)
    assert in_us["close_time"].dt.timestamp("ms").to_list() == [
        JANUARY_MS + 59_999,
        JANUARY_MS + 119_999,
    ]


def test_a_file_that_changes_its_unit_midway_keeps_every_row_in_its_minute() -> None:
    units = [False, True, True, False, True]
    got = decoded(*(line(minute, in_us=unit) for minute, unit in enumerate(units)))
    assert_frame_equal(got, decoded(*(line(minute) for minute in range(5))))


def test_the_first_day_of_microseconds_does_not_move() -> None:
    switch_ms = utc_ms(2025)
    got = decoded(
        f"{switch_ms - 60_000},1,1,1,1,1,{switch_ms - 1},1,1,1,1,0",
        f"{switch_ms * 1000},1,1,1,1,1,{switch_ms * 1000 + 59_999_999},1,1,1,1,0",
    )
    assert times_of(got) == [switch_ms - 60_000, switch_ms]
    assert got["close_time"].dt.timestamp("ms").to_list() == [switch_ms - 1, switch_ms + 59_999]


def test_spots_and_futures_spellings_of_a_number_are_the_same_number() -> None:
    spot = line(0, price="42000.10000000")
    futures = line(0, price="42000.10")
    coin_margined = line(0).replace(",1.5,", ",19431,")
    assert_frame_equal(decoded(spot), decoded(futures))
    assert decoded(coin_margined)["volume"].to_list() == [19431.0]


def test_candles_that_open_off_the_minute_or_close_early_stay_as_they_are() -> None:
    got = decoded(
        "1518168494789,1,1,1,1,1,1518168554788,1,1,1,1,0",
        "1515034800000,1,1,1,1,1,1515034814838,1,1,1,1,0",
    )
    assert times_of(got) == [1515034800000, 1518168494789]
    assert got["close_time"].dt.timestamp("ms").to_list() == [1515034814838, 1518168554788]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60),
    st.booleans(),
)
def test_rows_in_any_order_and_told_again_are_sorted_and_each_once(
    told: list[tuple[int, bool]], has_header: bool
) -> None:
    rows = [line(minute, price=f"{minute}.5", in_us=in_us) for minute, in_us in told]
    got = decoded(*([HEADER] if has_header else []), *rows)
    assert minutes_of(got) == sorted({minute for minute, _ in told})
    assert got["open"].to_list() == [minute + 0.5 for minute in minutes_of(got)]


@pytest.mark.parametrize(
    "lines",
    [
        [line(0), line(0, price="42000.2")],
        [line(0), line(1), line(2), line(0, price="42000.2")],
        [line(0), line(0), line(0, count="18")],
        [line(0), line(0, in_us=True, price="7")],
        [line(0), line(0).replace(str(JANUARY_MS + 59_999), str(JANUARY_MS + 59_998))],
    ],
)
def test_two_different_rows_of_one_time_are_a_conflict_and_none_is_chosen(lines: list[str]) -> None:
    with pytest.raises(ArchiveConflict, match="nothing was merged"):
        decoded(*lines)


def test_rows_that_differ_in_what_means_nothing_are_equal() -> None:
    assert decoded(line(0), line(0)[:-1] + "7").height == 1
    for kind in PRICES:
        assert decoded(line(0, count="60"), line(0, count="59"), kind=kind).height == 1


@pytest.mark.parametrize("kind", PRICES)
def test_price_candles_keep_their_prices_and_nothing_of_the_placeholders(kind: Kind) -> None:
    row = f"{JANUARY_MS},-0.0001,0.00000042,-1.5,0,0,{JANUARY_MS + 59_999},0,60,0,0,0"
    for lines in ([row], [HEADER, row]):
        got = decoded(*lines, kind=kind)
        assert got.schema == schema_of(kind)
        opens = datetime(2024, 1, 1, tzinfo=UTC)
        assert got.rows() == [
            (opens, -0.0001, 0.00000042, -1.5, 0.0, opens + timedelta(milliseconds=59_999))
        ]


def test_price_candles_that_differ_are_a_conflict() -> None:
    with pytest.raises(ArchiveConflict):
        decoded(line(0), line(0, price="1"), kind=MARK_PRICE_KLINES)


FIRST, SECOND = f"{JANUARY_MS + 4},8,0.00037409", f"{JANUARY_MS + 28_800_000},4,-0.00000001"


@pytest.mark.parametrize(
    "lines", [[FUNDING_HEADER, FIRST, SECOND], [SECOND, FIRST], [FIRST, SECOND, FIRST]]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_funding_keeps_its_moments_to_the_millisecond_and_invents_no_mark_price(
    lines: list[str], end: str
) -> None:
    got = decoded(*lines, kind=FUNDING_RATE, end=end)
    assert got.schema == schema_of(FUNDING_RATE)
    assert got["calc_time"].dt.timestamp("ms").to_list() == [
        JANUARY_MS + 4,
        JANUARY_MS + 28_800_000,
    ]
    assert got["funding_interval_hours"].to_list() == [8, 4]
    assert got["last_funding_rate"].to_list() == [0.00037409, -0.00000001]
    assert got["mark_price"].to_list() == [None, None]


def test_two_rates_of_one_moment_are_a_conflict() -> None:
    with pytest.raises(ArchiveConflict):
        decoded(FIRST, f"{JANUARY_MS + 4},8,0.00037410", kind=FUNDING_RATE)


ROW, NEXT = line(0), line(1)
SPOILT = {
    "an empty price": ROW.replace("42000.10000000", ""),
    "a word": ROW.replace("42000.10000000", "NULL"),
    "a price with two points": ROW.replace("42000.10000000", "42.000.1"),
    "a quoted price": ROW.replace("42000.10000000", '"42000.1"'),
    "a count with a fraction": ROW.replace(",17,", ",1.7,"),
    "no count": ROW.replace(",17,", ",,"),
    "no open time": ROW.removeprefix(str(JANUARY_MS)),
    "an open time with a fraction": ROW.replace(str(JANUARY_MS), f"{JANUARY_MS}.5"),
    "an open time too large": ROW.replace(str(JANUARY_MS), "9" * 20),
    "no close time": ROW.replace(str(JANUARY_MS + 59_999), ""),
    "an extra column": ROW + ",0",
    "a field too few": ROW.rpartition(",")[0],
    "half a line": ROW[: len(ROW) // 2],
    "nothing": "",
    "a page of HTML": "<html>",
}


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("has_header", [False, True])
def test_a_line_that_lacks_a_value_or_is_none_is_never_merged(
    what: str, place: str, has_header: bool
) -> None:
    bad = SPOILT[what]
    lines = {"first": [bad, ROW, NEXT], "middle": [ROW, bad, NEXT], "last": [ROW, NEXT, bad]}[place]
    with pytest.raises(ArchiveDamaged, match="nothing was merged"):
        decoded(*([HEADER] if has_header else []), *lines)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_last_field_that_means_nothing_may_be_empty_and_never_missing(
    pack: Callable[[bytes], bytes],
) -> None:
    empty = ROW.rpartition(",")[0] + ","
    assert minutes_of(decode_archive(KLINES, pack(f"{empty}\n{NEXT}\n".encode()))) == [0, 1]
    with pytest.raises(ArchiveDamaged, match=r"11 fields, not 12 \(line 2\)"):
        decode_archive(KLINES, pack(f"{NEXT}\n{empty[:-1]}\n".encode()))


def test_a_header_line_among_the_rows_is_never_merged() -> None:
    for lines in ([HEADER, HEADER, ROW], [ROW, HEADER, NEXT], [ROW, HEADER]):
        with pytest.raises(ArchiveDamaged, match="nothing was merged"):
            decoded(*lines)


@pytest.mark.parametrize(
    "text", ["1704067200004,8,", "1704067200004,,0.1", ",8,0.1", "1704067200004,8", "8", ROW]
)
def test_an_event_that_lacks_a_value_is_never_merged(text: str) -> None:
    with pytest.raises(ArchiveDamaged, match="nothing was merged"):
        decoded(FIRST, text, kind=FUNDING_RATE)


@pytest.mark.parametrize(
    "body", [b"\x00\x01\x02", b"\xff\xfe" + ROW.encode(), b"<html>\n</html>\n", b"404\n"]
)
def test_bytes_that_are_no_csv_are_damaged(body: bytes) -> None:
    with pytest.raises(ArchiveDamaged):
        decode_archive(KLINES, body)


def recorded_csv(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0])


def moment(text: str) -> datetime:
    """The moment of a time in ms (13 digits) or µs (16 digits), to the ms."""
    assert len(text) in (13, 16)
    return EPOCH + timedelta(milliseconds=int(text[:13]))


def parsed(body: bytes) -> list[tuple[object, ...]]:
    """The rows of a kline file by Python's own csv and float."""
    return [
        (
            moment(row[0]),
            *(float(text) for text in row[1:6]),
            moment(row[6]),
            float(row[7]),
            int(row[8]),
            float(row[9]),
            float(row[10]),
        )
        for row in csv.reader(io.StringIO(body.decode()))
        if row[0] != "open_time"
    ]


def recordings() -> list[Path]:
    """All recorded zips of futures, and days of spot with outages and odd candles."""
    days = sorted((RECORDED / "spot" / "klines_1m" / "BTCUSDT_daily_csv_gz").glob("*.csv.gz"))
    told = ("2018-01-04", "2017-12-", "2024-12-31", "2025-01-0")
    return [
        *sorted(RECORDED.rglob("official_zips/*.zip")),
        *sorted((RECORDED / "um" / "klines_1m_csv_gz").glob("*.csv.gz"))[::9],
        *(
            path
            for n, path in enumerate(days)
            if n % 25 == 0 or any(day in path.name for day in told)
        ),
    ]


@needs_recordings
@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.name)
def test_recorded_files_come_out_row_for_row(path: Path) -> None:
    body = recorded_csv(path)
    rows = parsed(body)
    assert len(rows) >= 300
    got = decode_archive(KLINES, body)
    assert got.schema == schema_of(KLINES)
    assert got.rows() == rows


@needs_recordings
@pytest.mark.parametrize("name", ["BTCUSDT-1m-2022-09-05.zip", "BTCUSDT-1m-2018-01-04.csv.gz"])
def test_a_recorded_file_in_another_order_and_half_of_it_twice_gives_the_same_rows(
    name: str,
) -> None:
    body = recorded_csv(next(RECORDED.rglob(name)))
    lines = [one for one in body.decode().split() if one[0].isdigit()]
    mixed = lines + lines[::2]
    random.Random(7).shuffle(mixed)
    assert_frame_equal(decoded(*mixed), decode_archive(KLINES, body))


@pytest.mark.parametrize("price", ["nan", "inf", "-inf", "NaN"])
def test_what_is_no_number_is_no_price(price: str) -> None:
    with pytest.raises(ArchiveDamaged):
        decoded(line(0), line(1, price=price))


@pytest.mark.parametrize("header", ["", HEADER + "\n"])
def test_a_gzipped_csv_is_read_as_the_csv_itself(header: str) -> None:
    text = (header + "".join(line(n) + "\n" for n in range(2_000))).encode()
    assert_frame_equal(decode_archive(KLINES, gzip.compress(text)), decode_archive(KLINES, text))
    assert decode_archive(KLINES, gzip.compress(header.encode())).is_empty()


def test_a_stream_that_does_not_fit_its_checksum_is_damaged() -> None:
    whole = gzip.compress("".join(line(n) + "\n" for n in range(2_000)).encode())
    for spoilt in (
        whole[:-1],
        whole[:-8] + b"\0\0\0\0" + whole[-4:],
        whole[: len(whole) // 2],
        whole[:12],
    ):
        with pytest.raises(ArchiveDamaged):
            decode_archive(KLINES, spoilt)

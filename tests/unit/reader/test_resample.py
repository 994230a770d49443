"""Coarser candles are those one would make by hand; filled rows are marked."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS, Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from klinefleet.workers.lake.candle_grid import CandleGrid
from klinefleet.workers.reader.resample import MADE_UP, Reshaping, resample
from tests.unit.helpers.small_lakes import rows_at

JANUARY = utc_ms(2024, 1)


def opened(text: str, at_ms: int) -> int:
    """Return the open time of the candle of a moment, by the calendar alone."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "1M":
        return int(midnight.replace(day=1).timestamp() * 1000)
    if text == "1w":
        return int((midnight - timedelta(days=moment.weekday())).timestamp() * 1000)
    step = timedelta(**{{"m": "minutes", "h": "hours", "d": "days"}[text[-1]]: int(text[:-1])})
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return int((epoch + (moment - epoch) // step * step).timestamp() * 1000)


def by_hand(rows: pl.DataFrame, text: str) -> dict[int, dict[str, Any]]:
    """The coarser candles, one row after the other."""
    made: dict[int, dict[str, Any]] = {}
    for row in rows.iter_rows(named=True):
        at = opened(text, int(row["open_time"].timestamp() * 1000))
        candle = made.get(at)
        if candle is None:
            made[at] = dict(row)
            continue
        candle["high"], candle["low"] = (
            max(candle["high"], row["high"]),
            min(candle["low"], row["low"]),
        )
        candle["close"] = row["close"]
        for name in (
            "volume",
            "quote_volume",
            "count",
            "taker_buy_volume",
            "taker_buy_quote_volume",
        ):
            candle[name] += row[name]
    return made


@settings(max_examples=60, deadline=None)
@given(
    text=st.sampled_from(
        ["3m", "5m", "15m", "30m", "1h", "4h", "12h", "1d", "3d", "1w", "1M", "7m", "45m", "10d"]
    ),
    start=st.integers(0, 60 * DAY_MS // MINUTE_MS),
    minutes=st.sets(st.integers(0, 5000), max_size=120),
    late_ms=st.sampled_from([0, 0, 0, 17]),
)
def test_coarser_candles_are_those_made_by_hand(
    text: str, start: int, minutes: set[int], late_ms: int
) -> None:
    """Gaps, times off the minute, and every anchor: epoch, Monday, the first of a month."""
    rows = rows_at(JANUARY + (start + n) * MINUTE_MS + late_ms for n in sorted(minutes))
    made, wanted = resample(KLINES, rows, CandleGrid.parse(text)), by_hand(rows, text)
    assert made.columns == rows.columns
    assert made["open_time"].dt.timestamp("ms").to_list() == list(wanted)
    for row, candle in zip(made.iter_rows(named=True), wanted.values(), strict=True):
        assert all(row[name] == candle[name] for name in ("open", "high", "low", "close", "count"))
        for name in ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"):
            assert math.isclose(row[name], candle[name], rel_tol=1e-12)
        after = opened(text, int(row["close_time"].timestamp() * 1000) + 1)
        assert (
            after
            == int(row["close_time"].timestamp() * 1000) + 1
            > int(row["open_time"].timestamp() * 1000)
        )


def test_symbols_are_not_mixed() -> None:
    hour = rows_at(range(JANUARY, JANUARY + HOUR_MS, MINUTE_MS))
    long = pl.concat([hour.select(pl.lit(name).alias("symbol"), pl.all()) for name in ("B", "A")])
    made = resample(KLINES, long, CandleGrid.parse("30m"))
    assert made["symbol"].to_list() == ["B", "B", "A", "A"]
    assert (
        made.filter(pl.col("symbol") == "A")
        .drop("symbol")
        .equals(resample(KLINES, hour, CandleGrid.parse("30m")))
    )


@pytest.mark.parametrize("interval", CANDLE_INTERVALS)
def test_the_exchanges_intervals_open_where_the_exchange_opens_them(interval: Interval) -> None:
    grid, span = (
        CandleGrid.of(interval),
        Span(JANUARY - 40 * DAY_MS, JANUARY - 40 * DAY_MS + 3 * interval.step_ms + 1),
    )
    opens = grid.opens(span).to_list()
    first = interval.ceil(span.start_ms)
    assert opens == [
        interval.advance(first, n) for n in range(interval.opens(span.start_ms, span.end_ms))
    ]
    at = (
        pl.Series([ms + 1 for ms in opens], dtype=pl.Int64)
        .cast(pl.Datetime("ms", "UTC"))
        .to_frame("t")
    )
    assert at.select(grid.floor(pl.col("t")).dt.timestamp("ms"))["t"].to_list() == opens
    assert [grid.floor_ms(ms + 1) for ms in opens] == opens == [grid.ceil_ms(ms) for ms in opens]


@pytest.mark.parametrize(
    ("held", "wanted", "is_made"),
    [
        ("1m", "1m", True),
        ("1m", "7m", True),
        ("1m", "1M", True),
        ("1h", "1w", True),
        ("1d", "3d", True),
        ("1d", "1w", True),
        ("1d", "1M", True),
        ("5m", "7m", False),
        ("1h", "30m", False),
        ("3d", "1w", False),
        ("1w", "1M", False),
        ("1w", "14d", False),
        ("1M", "1M", True),
        ("1M", "1w", False),
        ("8h", "12h", False),
        ("45m", "1w", True),
        ("7m", "1d", False),
    ],
)
def test_only_whole_candles_make_one(held: str, wanted: str, is_made: bool) -> None:
    assert CandleGrid.parse(wanted).is_made_of(CandleGrid.parse(held)) is is_made


def reshaped(
    rows: pl.DataFrame,
    held: list[Span],
    coarser: str | None,
    fill: str | None,
    trading_span: Span | None,
) -> pl.DataFrame:
    return Reshaping.parse(KLINES, Interval.M1, coarser, fill).apply(rows, held, trading_span)


def open_hours(rows: pl.DataFrame) -> list[int]:
    return ((rows["open_time"].dt.timestamp("ms") - JANUARY) // HOUR_MS).to_list()


def test_no_candle_is_made_of_a_part_of_its_time() -> None:
    """Where the held time begins, ends or breaks within an hour, that hour would come out wrong."""
    spans = [
        Span(JANUARY + 30 * MINUTE_MS, JANUARY + 2 * HOUR_MS),
        Span(JANUARY + 3 * HOUR_MS, JANUARY + 270 * MINUTE_MS),
    ]
    rows = rows_at(at for span in spans for at in range(span.start_ms, span.end_ms, MINUTE_MS))
    assert open_hours(reshaped(rows, spans, "1h", None, None)) == [1, 3]


def test_the_first_and_last_candle_of_trading_are_made_of_what_there_is() -> None:
    trading_span = Span(JANUARY + 30 * MINUTE_MS, JANUARY + 270 * MINUTE_MS)
    rows = rows_at(range(trading_span.start_ms, trading_span.end_ms, MINUTE_MS))
    assert open_hours(reshaped(rows, [trading_span], "1h", None, trading_span)) == [0, 1, 2, 3, 4]


def test_filled_candles_are_marked_and_have_the_last_close() -> None:
    span = Span(JANUARY, JANUARY + 10 * MINUTE_MS)
    rows = rows_at(JANUARY + n * MINUTE_MS for n in (2, 3, 6))
    filled = reshaped(rows, [span], None, "forward", None)
    assert [(at - JANUARY) // MINUTE_MS for at in filled["open_time"].dt.timestamp("ms")] == [
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
    ]
    assert filled[MADE_UP].to_list() == [False, False, True, True, False, True, True, True]
    assert filled.filter(~pl.col(MADE_UP)).drop(MADE_UP).equals(rows)
    for row in filled.filter(MADE_UP).iter_rows(named=True):
        before = rows.filter(pl.col("open_time") < row["open_time"]).row(-1, named=True)
        assert {row[name] for name in ("open", "high", "low", "close")} == {before["close"]}
        assert [row[name] for name in ("volume", "quote_volume", "count", "taker_buy_volume")] == [
            0,
            0,
            0,
            0,
        ]
        assert row["close_time"] - row["open_time"] == timedelta(milliseconds=59_999)


def test_nothing_is_filled_outside_of_what_is_held() -> None:
    held = [
        Span(JANUARY, JANUARY + 3 * MINUTE_MS),
        Span(JANUARY + 6 * MINUTE_MS, JANUARY + 8 * MINUTE_MS),
    ]
    filled = reshaped(rows_at([JANUARY]), held, None, "forward", None)
    assert [(at - JANUARY) // MINUTE_MS for at in filled["open_time"].dt.timestamp("ms")] == [
        0,
        1,
        2,
        6,
        7,
    ]
    nothing = reshaped(rows_at([]), held, None, "forward", None)
    assert (nothing.height, nothing.columns[-1]) == (0, MADE_UP)


def test_a_candle_off_its_minute_stands_for_it() -> None:
    late = rows_at([JANUARY, JANUARY + MINUTE_MS + 17, JANUARY + 2 * MINUTE_MS])
    assert (
        reshaped(late, [Span(JANUARY, JANUARY + 3 * MINUTE_MS)], None, "forward", None).height == 3
    )


def test_filled_coarse_candles_are_made_of_whole_ones() -> None:
    span = Span(JANUARY, JANUARY + 4 * HOUR_MS)
    rows = rows_at(
        at for at in range(span.start_ms, span.end_ms, MINUTE_MS) if (at - JANUARY) // HOUR_MS != 2
    )
    filled = reshaped(rows, [span], "1h", "forward", None)
    assert (open_hours(filled), filled[MADE_UP].to_list()) == (
        [0, 1, 2, 3],
        [False, False, True, False],
    )


@pytest.mark.parametrize(
    ("text", "message"), [("0m", "no interval '0m'"), ("1x", "no interval"), ("m", "no interval")]
)
def test_an_invalid_interval_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        CandleGrid.parse(text)

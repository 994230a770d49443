"""Small lakes for tests of reading: series of known rows, in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import polars as pl

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import MOMENT, schema_of
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import ManualClock
from tests.answers import ASKED_MS, CONTENT, ETAG

#: The current time of the readers under test.
NOW_MS = utc_ms(2024, 2, 15)
#: When each source was asked: each later than the one before.
_ASKED_MS = count(ASKED_MS)


def series(
    symbol: str = "BTCUSDT", market: Market = Market.USD_M, interval: Interval = Interval.M1
) -> Series:
    return Series(market, KLINES, interval, symbol)


def rows_at(times: Iterable[int], *, step_ms: int = 60_000, salt: float = 0.0) -> pl.DataFrame:
    """Return candles at these open times, ms; each value depends on time, column and salt."""
    opened = pl.Series("open_time", list(times), dtype=pl.Int64)
    minute = (opened // 1000 % 1_000_003).cast(pl.Float64) + salt
    columns: dict[str, pl.Series] = {"open_time": opened.cast(MOMENT)}
    for place, (name, dtype) in enumerate(schema_of(KLINES).items()):
        if dtype == pl.Float64:
            columns[name] = minute * 10 + place
    columns["high"], columns["low"] = columns["high"] + 100, columns["low"] - 100
    columns["close_time"] = (opened + step_ms - 1).cast(MOMENT)
    columns["count"] = (opened // step_ms % 97).cast(pl.Int64)
    return pl.DataFrame(columns).select(schema_of(KLINES).names())


def hold(
    store: Path | str, held_series: Series, rows: pl.DataFrame, covered: Sequence[Span]
) -> None:
    """Store rows, and the spans that they cover, in a lake; later rows replace those held."""
    asked_ms = next(_ASKED_MS)
    partitions = Partitions(open_store(str(store)))
    times = rows[held_series.kind.time_column].dt.timestamp("ms")
    for span in covered:
        for partition in held_series.partitions(span):
            part = partition.span.clip(span)
            held = rows.filter((times >= part.start_ms) & (times < part.end_ms))
            answer = Answer(part, Source.MONTHLY, asked_ms, ETAG, CONTENT)
            partitions.merge(partition, held, [answer], revises=True)


def hold_all(
    store: Path | str, held_series: Series, span: Span, *, salt: float = 0.0
) -> pl.DataFrame:
    """Store every candle of a span in a lake, and return them."""
    rows = rows_at(
        range(span.start_ms, span.end_ms, held_series.interval.step_ms),
        step_ms=held_series.interval.step_ms,
        salt=salt,
    )
    hold(store, held_series, rows, [span])
    return rows


def reader(store: Path | str, now_ms: int = NOW_MS) -> Reader:
    return Reader(str(store), cache=False, clock=ManualClock(now_ms))


DECEMBER, JANUARY, FEBRUARY = utc_ms(2023, 12), utc_ms(2024, 1), utc_ms(2024, 2)
#: Of hourly candles each month is in a partition of its own: they change years between them.
TWO_MONTHS = Span(DECEMBER, FEBRUARY)


def hours(symbol: str = "BTCUSDT") -> Series:
    return series(symbol, interval=Interval.H1)


def between(rows: pl.DataFrame, start_ms: int, end_ms: int) -> pl.DataFrame:
    times = rows["open_time"].dt.timestamp("ms")
    return rows.filter((times >= start_ms) & (times < end_ms))

"""Klines for tests: rows as the exchange spells them, pages, frames, and a lake in a folder."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from klinefleet.workers.binance.decode import decode_pages
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS, utc_ms
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.storage.objects import ObjectStore

MINUTES = Series(Market.USD_M, KLINES, Interval.M1, "BTCUSDT")
DAYS = Series(Market.COIN_M, KLINES, Interval.D1, "BTCUSD_PERP")
JANUARY = Partition(MINUTES, "2024-01")
JANUARY_MS = utc_ms(2024, 1)


def minutes(start: int, end: int) -> Span:
    """The span between two minutes of January 2024, counted from its first."""
    return Span(JANUARY_MS + start * MINUTE_MS, JANUARY_MS + end * MINUTE_MS)


def opens(span: Span, step_ms: int = MINUTE_MS) -> range:
    return range(span.start_ms, span.end_ms, step_ms)


def row(
    open_ms: int, step_ms: int = MINUTE_MS, *, price: str = "42000.10", close_ms: int | None = None
) -> str:
    """One candle as REST spells it."""
    closes = open_ms + step_ms - 1 if close_ms is None else close_ms
    head = f'{open_ms},"{price}","42001.20","0.00000001","42000.30","1.500",{closes}'
    return f'[{head},"63000.45",17,"0.700","29400.2","0"]'


def body(open_times: Iterable[int], step_ms: int = MINUTE_MS, *, price: str = "42000.10") -> bytes:
    """A page of candles as REST sends it."""
    return f"[{','.join(row(at, step_ms, price=price) for at in open_times)}]".encode()


def frame(open_times: Iterable[int], *, price: str = "42000.10") -> pl.DataFrame:
    """The same candles as the lake holds them."""
    times = list(open_times)
    return decode_pages(KLINES, [body(times, price=price)]) if times else no_rows(KLINES)


def times_of(rows: pl.DataFrame) -> list[int]:
    """The open times of a frame, ms."""
    return rows["open_time"].dt.timestamp("ms").to_list()


def covered(files: ObjectStore, series: Series) -> list[Span]:
    """What the lake holds of a series, as its partitions' footers tell it."""
    return Coverage(files, FooterCache("", None)).covered(series)

"""A series, and the parts that it is fetched in: Series, Block, Window.

Times are milliseconds since the epoch, UTC; spans are half open, [start, end).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval, month_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND, kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.symbols import checked_symbol
from klinefleet.workers.domain.timestamps import utc_ms


class Source(StrEnum):
    """Where rows come from."""

    REST = "rest"
    MONTHLY = "monthly"
    DAILY = "daily"

    @property
    def is_archive(self) -> bool:
        return self is not Source.REST


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """One symbol's rows of one kind and interval on one market."""

    market: Market
    kind: Kind
    interval: Interval
    symbol: str

    def __str__(self) -> str:
        return f"{self.market}/{self.kind}/{self.interval}/{self.symbol}"

    @property
    def label(self) -> str:
        """Its name for people: `um BTCUSDT 1m`, `um markPriceKlines BTCUSDT 1m`."""
        kind = "" if self.kind == DEFAULT_KIND else f" {self.kind}"
        return f"{self.market}{kind} {self.symbol} {self.interval}"

    @classmethod
    def parse(cls, text: str) -> Series:
        """Return the series of a text that `str` returned; ValueError where it is none."""
        market, kind, interval, symbol = text.split("/")
        return cls(Market(market), kind_named(kind), Interval(interval), checked_symbol(symbol))

    def block(self, ms: int) -> Block:
        """Return the block that holds the moment `ms`, UTC."""
        moment = datetime.fromtimestamp(ms / 1000, UTC)
        return Block(self, f"{moment:%Y}" if self.interval.is_coarse else f"{moment:%Y-%m}")

    def blocks(self, span: Span) -> Iterator[Block]:
        """Yield the blocks that `span` touches, oldest first."""
        start_ms = span.start_ms
        while start_ms < span.end_ms:
            block = self.block(start_ms)
            yield block
            start_ms = block.span.end_ms


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """The time that is fetched and compacted together: a month, or a year of a coarse series.

    A month of 1d candles is 30 rows, a page is hundreds: by the year, a coarse series costs a tenth
    of the weight.
    """

    series: Series
    period: str

    def __str__(self) -> str:
        return f"{self.series}/{self.period}"

    @classmethod
    def parse(cls, text: str) -> Block:
        """Return the block of a text that `str` returned."""
        series, period = text.rsplit("/", 1)
        return cls(Series.parse(series), period)

    @property
    def span(self) -> Span:
        if len(self.period) == len("2024-01"):
            return month_span(self.period)
        year = int(self.period)
        return Span(utc_ms(year), utc_ms(year + 1))


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The work of one fetch task: some REST pages, or archive files, of one block."""

    block: Block
    span: Span
    source: Source = Source.REST

    def __str__(self) -> str:
        source = f" ({self.source} archive)" if self.source.is_archive else ""
        return f"{self.block.series.label} {self.span}{source}"


def missing(series: Series, held: Iterable[Span], wanted: Span) -> list[Span]:
    """Return the parts of `wanted` that are not held and that a row can open in, oldest first.

    The first days of a year before its first Monday have no weekly candle: nothing is missing of
    them.
    """
    return [
        span
        for span in spans.gaps(held, wanted)
        if series.interval.opens(span.start_ms, span.end_ms)
    ]

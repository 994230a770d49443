"""A series, the parts that it is kept and fetched in, and its sources.

Times are milliseconds since the epoch, UTC; spans are half open, [start, end).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval, Period, period_span, periods_of
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND, kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.symbols import checked_symbol


@dataclass(frozen=True, eq=False)
class Source:
    """Where rows come from. Two of one name are equal, and sort by it; `str` returns it.

    The set is open: a partition may have rows of a source that only a newer version knows.
    """

    REST: ClassVar[Source]
    MONTHLY: ClassVar[Source]
    DAILY: ClassVar[Source]

    name: str
    trust: int = 0
    """Of two sources that differ in a row, and with equal votes, the higher one wins."""
    is_archive: bool = False
    """Whether it has files, published once and named by their period."""
    is_witness: bool = False
    """Whether its silence says that there is no row. One that covers only what it saw, or that this
    version does not know, is no witness."""
    answers_any_time: bool = False
    """Whether it may be asked for any time, as often as is wanted: each call is a witness."""

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __lt__(self, other: Source) -> bool:
        return self.name < other.name


#: REST is what the exchange says today; in the conflicts that were seen, the daily files agreed
#: with it.
SOURCES = {
    source.name: source
    for source in (
        Source("rest", trust=3, is_witness=True, answers_any_time=True),
        Source("daily", trust=2, is_archive=True, is_witness=True),
        Source("monthly", trust=1, is_archive=True, is_witness=True),
    )
}
Source.REST = SOURCES["rest"]
Source.DAILY = SOURCES["daily"]
Source.MONTHLY = SOURCES["monthly"]


def source_named(name: str) -> Source:
    """Return the source of this name; an unknown one, of no trust, where there is none."""
    return SOURCES.get(name) or Source(name)


def known_source(name: str) -> Source:
    """Return the source of this name; ValueError where this version does not know it."""
    if name not in SOURCES:
        raise ValueError(f"{name!r} is not a source; there are {', '.join(SOURCES)}")
    return SOURCES[name]


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

    @property
    def period(self) -> Period:
        """The time of one of its partitions."""
        return self.kind.period or self.interval.period

    def partition(self, ms: int) -> Partition:
        """Return the partition that holds the moment `ms`, UTC."""
        return Partition(self, self.period.name_at(ms))

    def partitions(self, span: Span) -> Iterator[Partition]:
        """Yield the partitions that `span` touches, oldest first."""
        for name, _ in periods_of(self.period, span):
            yield Partition(self, name)


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One series and one period: fetched, compacted and kept together, as one Parquet file.

    The period is a day of 1s candles, a month of 1m to 5m, a year of the rest. A partition takes
    its rows from any number of archive files and REST windows.
    """

    series: Series
    period: str
    """The name of a day, month or year, like 2024-01-05, 2024-01 or 2024."""

    def __str__(self) -> str:
        return f"{self.series}/{self.period}"

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Return the partition of a text that `str` returned."""
        series, period = text.rsplit("/", 1)
        return cls(Series.parse(series), period)

    @property
    def span(self) -> Span:
        return period_span(self.period)

    @property
    def is_of_this_format(self) -> bool:
        """Whether its period is that of its series; in lakes of format 1 all are months."""
        return self.period == self.series.period.name_at(self.span.start_ms)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The work of one fetch task: some REST pages, or archive files, of one partition."""

    partition: Partition
    span: Span
    source: Source = Source.REST

    def __str__(self) -> str:
        source = f" ({self.source} archive)" if self.source.is_archive else ""
        return f"{self.partition.series.label} {self.span}{source}"


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

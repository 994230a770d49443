"""The words everything else is said in: Market, Kind, Interval, Source, Series, Span, Block, Window.

Times are milliseconds since the epoch, UTC; spans are half open, [start, end).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache

from workers.errors import RequestError

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

#: The end of a life whose end nobody knows; a delivery date that means "never" lies beyond it (2100-01-01).
NEVER_MS = 4_102_444_800_000

#: The first Monday after the epoch: weekly candles open on Mondays 00:00 UTC.
_FIRST_MONDAY_MS = 4 * DAY_MS

#: The longest symbol that is believed; the longest seen has 17 characters.
_SYMBOL_CHARACTERS = 60


class Market(StrEnum):
    """Where a symbol trades; the value is how users, keys and URLs spell it."""

    SPOT = "spot"
    USD_M = "um"
    COIN_M = "cm"


class Kind(StrEnum):
    """What kind of series it is, in the archive's spelling."""

    KLINES = "klines"
    MARK = "markPriceKlines"
    INDEX = "indexPriceKlines"
    """Of a pair, not of a symbol: BTCUSDT, on COIN-M BTCUSD."""
    PREMIUM = "premiumIndexKlines"
    FUNDING = "fundingRate"
    """Events, not candles: their interval is `Interval.EVENTS`."""


class Source(StrEnum):
    """Where rows come from."""

    REST = "rest"
    MONTHLY = "monthly"
    DAILY = "daily"

    @property
    def is_archive(self) -> bool:
        return self is not Source.REST


class Interval(StrEnum):
    """A candle's length, in the exchange's spelling (case matters: 1m is a minute, 1M a month)."""

    S1 = "1s"
    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H8 = "8h"
    H12 = "12h"
    D1 = "1d"
    D3 = "3d"
    W1 = "1w"
    MO1 = "1M"
    EVENTS = "events"
    """No grid: a row whenever the exchange makes one. Not a candle; counted as if there were one every eight hours."""

    @property
    def is_grid(self) -> bool:
        """Whether the calendar says when rows open."""
        return self is not Interval.EVENTS

    @property
    def step_ms(self) -> int:
        """The candle's length; for 1M the shortest there is, 28 days."""
        if self is Interval.EVENTS:
            return 8 * HOUR_MS
        if self is Interval.MO1:
            return 28 * DAY_MS
        unit = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}[self.value[-1]]
        return int(self.value[:-1]) * unit

    @property
    def is_coarse(self) -> bool:
        """Whether a month holds so few candles that a year is fetched at once."""
        return self.step_ms >= 4 * HOUR_MS

    def floor(self, ms: int) -> int:
        """Return the open time of the candle that holds the moment `ms`."""
        if not self.is_grid:
            return ms
        if self is Interval.MO1:
            return month_start(ms)
        anchor = _FIRST_MONDAY_MS if self is Interval.W1 else 0
        return ms - (ms - anchor) % self.step_ms

    def ceil(self, ms: int) -> int:
        """Return the first open time at or after `ms`."""
        opened = self.floor(ms)
        return opened if opened == ms else self.advance(opened, 1)

    def advance(self, open_ms: int, candles: int) -> int:
        """Return the open time `candles` after the one at `open_ms`."""
        if self is not Interval.MO1:
            return open_ms + candles * self.step_ms
        moment = datetime.fromtimestamp(open_ms / 1000, UTC)
        months = moment.year * 12 + moment.month - 1 + candles
        return utc_ms(months // 12, months % 12 + 1)

    def opens(self, start_ms: int, end_ms: int) -> int:
        """Return how many open times the calendar has in [start, end)."""
        first = self.ceil(start_ms)
        if self is Interval.MO1:
            return sum(1 for _ in months_of(Span(first, end_ms))) if first < end_ms else 0
        return max(0, -(-(end_ms - first) // self.step_ms))


#: The intervals that candles come in.
CANDLE_INTERVALS = tuple(interval for interval in Interval if interval.is_grid)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The time [start_ms, end_ms)."""

    start_ms: int
    end_ms: int

    def __str__(self) -> str:
        return f"{iso(self.start_ms)}..{iso(self.end_ms)}"

    @classmethod
    def parse(cls, text: str) -> Span:
        """Return the span that `str` spelled as `text`; ValueError where it is none."""
        start, end = text.split("..")
        return cls(of_iso(start), of_iso(end))

    @property
    def is_empty(self) -> bool:
        return self.start_ms >= self.end_ms

    def clip(self, other: Span) -> Span:
        """Return what both spans share; it may be empty."""
        return Span(max(self.start_ms, other.start_ms), min(self.end_ms, other.end_ms))


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """One symbol's candles of one interval on one market."""

    market: Market
    kind: Kind
    interval: Interval
    symbol: str

    def __str__(self) -> str:
        return f"{self.market}/{self.kind}/{self.interval}/{self.symbol}"

    @classmethod
    def parse(cls, text: str) -> Series:
        """Return the series that `str` spelled as `text`."""
        market, kind, interval, symbol = text.split("/")
        return cls(Market(market), Kind(kind), Interval(interval), checked_symbol(symbol))

    def block(self, ms: int) -> Block:
        """Return the block that the moment `ms` falls in."""
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
    """What is fetched and compacted together: a month of a fine series, a year of a coarse one.

    A month of 1d candles is 30 rows, a page is hundreds: by the year, a coarse series costs a tenth of the weight.
    """

    series: Series
    period: str

    def __str__(self) -> str:
        return f"{self.series}/{self.period}"

    @classmethod
    def parse(cls, text: str) -> Block:
        """Return the block that `str` spelled as `text`."""
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
    """What one fetch task is told: a run of pages of one block, or files of the archive for it."""

    block: Block
    span: Span
    source: Source = Source.REST

    def __str__(self) -> str:
        series = self.block.series
        kind = "" if series.kind is Kind.KLINES else f" {series.kind}"
        of = f" ({self.source} archive)" if self.source.is_archive else ""
        return f"{series.market}{kind} {series.symbol} {series.interval} {self.span}{of}"


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle as back-testers take it; `timestamp` is its open time, UTC."""

    symbol: str
    timestamp: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


def checked_symbol(text: str) -> str:
    """Return the symbol in the exchange's capitals; RequestError where it could not be one."""
    symbol = text.strip().upper()
    if not _spells_symbol(symbol):
        raise RequestError(
            f"symbol {text!r} cannot be one: only letters, digits, '_' and '-' occur; nothing was queued"
        )
    return symbol


def is_symbol(text: str) -> bool:
    """Return whether `text` is a symbol as it stands."""
    return _spells_symbol(text) and text == text.upper()


def _spells_symbol(text: str) -> bool:
    """Whether there are only letters and digits of any script, their marks, '_' and '-': no way out of a folder."""
    return 0 < len(text) <= _SYMBOL_CHARACTERS and all(
        char in "_-" or unicodedata.category(char)[0] in "LNM" for char in text
    )


def utc_ms(year: int, month: int = 1, day: int = 1) -> int:
    """Return the midnight UTC that begins the day."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def month_start(ms: int) -> int:
    """Return the start of the month that `ms` falls in."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return utc_ms(moment.year, moment.month)


@cache
def month_span(month: str) -> Span:
    """Return the whole of a month, YYYY-MM."""
    start_ms = utc_ms(int(month[:4]), int(month[5:]))
    return Span(start_ms, Interval.MO1.advance(start_ms, 1))


def months_of(span: Span) -> Iterator[tuple[str, Span]]:
    """Yield (YYYY-MM, that month's whole span) for each month that `span` touches."""
    start_ms = month_start(span.start_ms)
    while start_ms < span.end_ms:
        end_ms = Interval.MO1.advance(start_ms, 1)
        yield f"{datetime.fromtimestamp(start_ms / 1000, UTC):%Y-%m}", Span(start_ms, end_ms)
        start_ms = end_ms


def iso(ms: int) -> str:
    """Return the moment as people read it, to the minute where it stands on one."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    if ms % DAY_MS == 0:
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%Y-%m-%dT%H:%M}" if ms % MINUTE_MS == 0 else f"{moment:%Y-%m-%dT%H:%M:%S.}{ms % 1000:03d}"


def of_iso(text: str) -> int:
    """Return the moment that `iso` spelled as `text`; ValueError where it is none."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000

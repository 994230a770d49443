"""Candle lengths and the calendar: open times, months."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache

from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    month_start,
    utc_ms,
)

#: The first Monday after the epoch: weekly candles open on Mondays 00:00 UTC.
_FIRST_MONDAY_MS = 4 * DAY_MS


class Interval(StrEnum):
    """A candle's length, as the exchange spells it: 1m is a minute, 1M a month."""

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
    """No grid: a row whenever the exchange makes one.

    Not a candle; counted as if there were one every eight hours.
    """

    @property
    def is_grid(self) -> bool:
        """Whether the calendar says when rows open; not for events."""
        return self is not Interval.EVENTS

    @property
    def step_ms(self) -> int:
        """The candle's length in ms; of 1M the shortest, 28 days."""
        if self is Interval.EVENTS:
            return 8 * HOUR_MS
        if self is Interval.MO1:
            return 28 * DAY_MS
        unit = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}[
            self.value[-1]
        ]
        return int(self.value[:-1]) * unit

    @property
    def is_coarse(self) -> bool:
        """Whether a month has so few candles that a year is fetched at once."""
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


@cache
def month_span(month: str) -> Span:
    """Return the span of a month, YYYY-MM."""
    start_ms = utc_ms(int(month[:4]), int(month[5:]))
    return Span(start_ms, Interval.MO1.advance(start_ms, 1))


def months_of(span: Span) -> Iterator[tuple[str, Span]]:
    """Yield each month that `span` touches, as YYYY-MM and its whole span."""
    start_ms = month_start(span.start_ms)
    while start_ms < span.end_ms:
        end_ms = Interval.MO1.advance(start_ms, 1)
        yield f"{datetime.fromtimestamp(start_ms / 1000, UTC):%Y-%m}", Span(start_ms, end_ms)
        start_ms = end_ms

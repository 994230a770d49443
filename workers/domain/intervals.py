"""Candle lengths and the calendar: open times, days, months and years."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

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


class Period(StrEnum):
    """A calendar period, UTC. It is named like 2024-01-05, 2024-01 or 2024."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"

    def name_at(self, ms: int) -> str:
        """Return the name of the period that holds the moment `ms`."""
        return f"{datetime.fromtimestamp(ms / 1000, UTC):{_PERIOD_FORMATS[self]}}"


_PERIOD_FORMATS = {Period.DAY: "%Y-%m-%d", Period.MONTH: "%Y-%m", Period.YEAR: "%Y"}
_PERIOD_NAME = re.compile(r"[0-9]{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12][0-9]|3[01]))?)?")


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
    def period(self) -> Period:
        """The time of one partition of such candles; funding has a year, too."""
        if self.step_ms < MINUTE_MS:
            return Period.DAY
        return Period.MONTH if self.step_ms < 15 * MINUTE_MS else Period.YEAR

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


@lru_cache(maxsize=10_000)
def period_span(name: str) -> Span:
    """Return the span of a period by its name; ValueError where it is none."""
    if not _PERIOD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no day, month or year")
    year, month, day = int(name[:4]), int(name[5:7] or 1), int(name[8:] or 1)
    start_ms = utc_ms(year, month, day)
    if len(name) == len("2024"):
        return Span(start_ms, utc_ms(year + 1))
    is_day = len(name) == len("2024-01-05")
    return Span(start_ms, start_ms + DAY_MS if is_day else Interval.MO1.advance(start_ms, 1))


def is_period(name: str) -> bool:
    """Return True for the name of a day, month or year."""
    try:
        period_span(name)
    except ValueError:
        return False
    return True


def periods_of(period: Period, span: Span) -> Iterator[tuple[str, Span]]:
    """Yield each period that `span` touches, its name and its whole span, oldest first."""
    start_ms = span.start_ms
    while start_ms < span.end_ms:
        name = period.name_at(start_ms)
        whole = period_span(name)
        yield name, whole
        start_ms = whole.end_ms


def months_of(span: Span) -> Iterator[tuple[str, Span]]:
    """Yield each month that `span` touches, as YYYY-MM and its whole span."""
    return periods_of(Period.MONTH, span)

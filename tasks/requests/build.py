"""Parse a request's source and range from what the user typed."""

from __future__ import annotations

from klinefleet.tasks.requests.request import closed_ms
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.parsing import parse_timestamp
from klinefleet.workers.domain.timestamps import iso, utc_ms
from klinefleet.workers.sources.policy import Mode

#: The exchange opened in July 2017, so nothing older is requested.
FIRST_MS = utc_ms(2017)


def parse_source(text: str) -> Mode:
    """Return the source mode of this name."""
    try:
        return Mode(text.lower())
    except ValueError:
        raise RequestError(f"unknown source {text!r}; known are {', '.join(Mode)}") from None


def parse_bounds(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Return a start and an end, ms UTC, None for one that is not given."""
    start_ms = parse_timestamp("start", start) if start is not None else None
    end_ms = parse_timestamp("end", end) if end is not None else None
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise RequestError(f"start {start} is not before end {end}")
    return start_ms, end_ms


def parse_range(
    kind: Kind, interval: Interval, start: str, end: str | None, *, now_ms: int
) -> tuple[int, int]:
    """Return the first open time and the end (exclusive) of the closed candles in a range, ms UTC.

    `now_ms` is the exchange's clock, and the end where none is given.
    """
    start_ms = parse_timestamp("start", start)
    end_ms = now_ms if end is None else parse_timestamp("end", end)
    if start_ms < 0:
        raise RequestError(f"start {start} is before 1970")
    if start_ms >= now_ms:
        raise RequestError(f"start {start} is in the future; it is now {iso(now_ms)} UTC")
    if start_ms >= end_ms:
        raise RequestError(f"start {start} is not before end {end}")
    first_ms = interval.ceil(max(start_ms, FIRST_MS))
    last_ms = min(interval.ceil(min(end_ms, now_ms)), closed_ms(kind, interval, now_ms))
    if first_ms >= last_ms:
        until = "now" if end is None else end
        raise RequestError(f"no {interval} candle opens and closes between {start} and {until}")
    return first_ms, last_ms

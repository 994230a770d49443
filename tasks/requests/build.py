"""From a user's words to a Request: everything that can be wrong with them is said here, in one
line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from klinefleet.tasks.requests.request import closed_ms
from klinefleet.workers.domain import parsing
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import iso, utc_ms
from klinefleet.workers.sources.policy import Mode

#: The exchange opened in July 2017; nothing older is asked for.
FIRST_MS = utc_ms(2017)


def market_of(text: str) -> Market:
    """Return the market of this name."""
    with _refusing():
        return parsing.parse_market(text)


def kind_of(market: Market, text: str) -> Kind:
    """Return the kind of this name, where the market has it."""
    with _refusing():
        return parsing.parse_kind(market, text)


def interval_of(market: Market, kind: Kind, text: str | None) -> Interval:
    """Return the interval of this name, where the market has it; for events, which have none, what
    stands for it.
    """
    with _refusing():
        return parsing.parse_interval(market, kind, text)


def mode_of(text: str) -> Mode:
    """Return the sources of this name."""
    try:
        return Mode(text.lower())
    except ValueError:
        raise RequestError(
            f"no source {text!r}; there are {', '.join(Mode)}; nothing was queued"
        ) from None


def moment_of(name: str, text: str) -> int:
    """Return a date or a time in ms; what tells no zone is UTC."""
    with _refusing():
        return parsing.parse_timestamp(name, text)


def range_of(
    kind: Kind, interval: Interval, start: str, end: str | None, *, now_ms: int
) -> tuple[int, int]:
    """Return the open times [start, end) that are wanted and closed, ms UTC."""
    start_ms, end_ms = moment_of("start", start), now_ms if end is None else moment_of("end", end)
    if start_ms < 0:
        raise RequestError(f"start {start} lies before 1970; nothing was queued")
    if start_ms >= now_ms:
        raise RequestError(
            f"start {start} lies in the future (it is {iso(now_ms)} UTC); nothing was queued"
        )
    if start_ms >= end_ms:
        raise RequestError(f"start {start} is not before end {end}; nothing was queued")
    first_ms = interval.ceil(max(start_ms, FIRST_MS))
    last_ms = min(interval.ceil(min(end_ms, now_ms)), closed_ms(kind, interval, now_ms))
    if first_ms >= last_ms:
        until = "now" if end is None else end
        raise RequestError(
            f"no {interval} candle opens and closes between {start} and {until}; nothing was queued"
        )
    return first_ms, last_ms


@contextmanager
def _refusing() -> Iterator[None]:
    """Say of a word that makes no sense that nothing came of it."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{error}; nothing was queued") from None

"""Parses the words of users: market, kind, interval, moment. RequestError for unknown ones."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TypeAlias

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS, Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.domain.markets import Market, check_interval

#: A moment: 2024-01-31, 2024-01-31T12:00, a date, a datetime, or ms since the epoch.
Moment: TypeAlias = str | date | datetime | int


def parse_market(text: str) -> Market:
    """Return the market of this name."""
    try:
        return Market(text.lower())
    except ValueError:
        raise RequestError(f"unknown market {text!r}; known are {', '.join(Market)}") from None


def parse_kind(market: Market | None, text: str) -> Kind:
    """Return the kind of this name; RequestError where there is none, or `market` has none."""
    known = {name.lower(): kind for name, kind in KINDS.items()}
    kind = known.get(text.lower())
    if kind is None:
        raise RequestError(f"unknown kind {text!r}; known are {', '.join(KINDS)}")
    if market is not None and market not in kind.markets:
        raise RequestError(f"market {market} has no {kind}")
    return kind


def parse_interval(market: Market, kind: Kind, text: str | None) -> Interval:
    """Return the interval of this name; 1m where none is given, EVENTS for kinds without one."""
    if not kind.has_interval:
        if text is not None:
            raise RequestError(f"kind {kind} has no interval, so interval {text} makes no sense")
        return Interval.EVENTS
    text = Interval.M1 if text is None else text
    if text not in CANDLE_INTERVALS:
        raise RequestError(f"unknown interval {text!r}; known are {', '.join(CANDLE_INTERVALS)}")
    check_interval(market, Interval(text))
    return Interval(text)


def parse_timestamp(name: str, moment: Moment) -> int:
    """Return a moment in ms UTC; without a time zone it is UTC. `name` is for the error."""
    if isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise RequestError(
                f"{name} {moment!r} is no date like 2024-01-31 or 2024-01-31T12:00"
            ) from None
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)

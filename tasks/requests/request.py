"""The request: the value that travels from the command line to the planner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND, kind_named
from klinefleet.workers.domain.markets import Market, Pool
from klinefleet.workers.domain.paging import page_count, pages
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.sources.choice import SMALL_CALLS
from klinefleet.workers.sources.policy import Mode

T = TypeVar("T")


def closed_ms(kind: Kind, interval: Interval, now_ms: int) -> int:
    """Return the open time, ms UTC, before which candles are final.

    `now_ms` is the exchange's clock. Rows younger than the kind's `settle_ms` are still corrected.
    """
    return interval.floor(now_ms - kind.settle_ms)


@dataclass(frozen=True, slots=True)
class Request:
    """Series × range, checked; times in ms UTC, on the interval's open times, end exclusive."""

    market: Market
    kind: Kind
    interval: Interval
    symbols: tuple[str, ...]
    start_ms: int
    end_ms: int
    source: Mode = Mode.AUTO
    revise: bool = False
    """True: fetch archive files that were published again, instead of what is missing."""

    @property
    def span(self) -> Span:
        return Span(self.start_ms, self.end_ms)

    @property
    def pool(self) -> Pool:
        """The pool whose weight this request spends."""
        return self.kind.pool(self.market)

    @property
    def is_small(self) -> bool:
        """True if REST answers all of it in a round trip or two."""
        return self.calls_per_symbol() * len(self.symbols) <= SMALL_CALLS

    def series(self, first: int = 0) -> Iterator[Series]:
        """Yield the series from the one at index `first` on."""
        for symbol in self.symbols[first:]:
            yield Series(self.market, self.kind, self.interval, symbol)

    def calls_per_symbol(self) -> int:
        """Return the calls for one symbol that traded the whole range."""
        any_series = next(self.series())
        return sum(
            page_count(any_series, partition.span.clip(self.span))
            for partition in any_series.partitions(self.span)
        )

    def call_weight(self) -> int:
        """Return the weight of this request's usual call."""
        any_series = next(self.series())
        first_partition = next(any_series.partitions(self.span))
        calls = pages(any_series, first_partition.span.clip(self.span))
        return max((call.weight for call in calls), default=1)

    def to_json(self) -> str:
        """Return the request as a JSON object, as Redis and reports keep it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, default=str)

    @classmethod
    def from_json(cls, text: str | bytes) -> Request:
        """Return the request that `to_json` of this or another version wrote.

        Unknown keys are ignored; optional ones have defaults. The interval is required. ValueError
        names the key that is missing or wrong.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"a request is a JSON object, not {text!r}") from error
        if not isinstance(values, dict):
            raise ValueError(f"a request is a JSON object, not {values!r}")  # noqa: TRY004 - as for invalid JSON
        return cls(
            market=_parse(values, "market", Market),
            kind=_parse(values, "kind", kind_named, DEFAULT_KIND),
            interval=_parse(values, "interval", Interval),
            symbols=_parse(values, "symbols", _strings),
            start_ms=_parse(values, "start_ms", _integer),
            end_ms=_parse(values, "end_ms", _integer),
            source=_parse(values, "source", Mode, Mode.AUTO),
            revise=_parse(values, "revise", _boolean, False),
        )


def _parse(
    values: dict[str, Any], key: str, parse: Callable[[Any], T], default: T | None = None
) -> T:
    """Return a key's parsed value, or the default of a missing key."""
    if key not in values:
        if default is None:
            found = ", ".join(values) or "no keys"
            raise ValueError(f"a request without {key!r}: it has {found}")
        return default
    try:
        return parse(values[key])
    except ValueError as error:
        raise ValueError(
            f"a request's {key!r} was {values[key]!r}, which this version does not know"
        ) from error
    except TypeError as error:
        raise ValueError(f"a request's {key!r} was {values[key]!r}: {error}") from error


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError("it must be a list of symbols")
    return tuple(value)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("it must be a whole number of milliseconds")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("it must be true or false")
    return value

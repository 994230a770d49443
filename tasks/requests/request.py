"""What a user asks for: one value that travels from the command line to the planner."""

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
    """Return the end of what may be requested, ms UTC, on an open time.

    `now_ms` is the exchange's clock. Younger rows are still corrected there.
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
    """Whether it is not about what is missing, but about archive files that were published anew
    since.
    """

    @property
    def span(self) -> Span:
        return Span(self.start_ms, self.end_ms)

    @property
    def pool(self) -> Pool:
        """The pool whose weight it spends."""
        return self.kind.pool(self.market)

    @property
    def is_small(self) -> bool:
        """Whether REST answers all of it in a round trip or two."""
        return self.calls_of_one() * len(self.symbols) <= SMALL_CALLS

    def series(self, first: int = 0) -> Iterator[Series]:
        """Yield the series from the one at index `first` on."""
        for symbol in self.symbols[first:]:
            yield Series(self.market, self.kind, self.interval, symbol)

    def calls_of_one(self) -> int:
        """Return how many calls one symbol takes that existed all the time."""
        any_series = next(self.series())
        return sum(
            page_count(any_series, block.span.clip(self.span))
            for block in any_series.blocks(self.span)
        )

    def weight_of_call(self) -> int:
        """Return the weight of this request's usual call."""
        first = next(self.series())
        return max(
            (
                page.weight
                for page in pages(first, next(first.blocks(self.span)).span.clip(self.span))
            ),
            default=1,
        )

    def to_json(self) -> str:
        """Return it as a JSON object, as it is kept in Redis and in reports."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, default=str)

    @classmethod
    def from_json(cls, text: str | bytes) -> Request:
        """Return the request that `to_json` wrote, by this version or another; ValueError names a
        key that is wrong.

        Unknown keys are ignored, optional ones have their defaults. The interval is required: none
        is the usual one.
        """
        told = json.loads(text)
        if not isinstance(told, dict):
            raise ValueError(f"a request is a JSON object, this is {told!r}")  # noqa: TRY004 - as of what is no JSON
        return cls(
            market=_read(told, "market", Market),
            kind=_read(told, "kind", kind_named, DEFAULT_KIND),
            interval=_read(told, "interval", Interval),
            symbols=_read(told, "symbols", _names),
            start_ms=_read(told, "start_ms", _ms),
            end_ms=_read(told, "end_ms", _ms),
            source=_read(told, "source", Mode, Mode.AUTO),
            revise=_read(told, "revise", _flag, False),
        )


def _read(told: dict[str, Any], key: str, read: Callable[[Any], T], default: T | None = None) -> T:
    """Return a key's value, or its default where there is one and the key is missing."""
    if key not in told:
        if default is None:
            raise ValueError(f"a request without {key!r}: it has {', '.join(told) or 'nothing'}")
        return default
    try:
        return read(told[key])
    except (TypeError, ValueError) as error:
        raise ValueError(f"a request's {key!r} was {told[key]!r}: {error}") from error


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError("a list of symbols is needed")
    return tuple(value)


def _ms(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number of milliseconds is needed")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false is needed")
    return value

"""What a user asks for: one value that travels from the command line to the planner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from workers.binance.markets import Pool, page_count, pages, pool_of
from workers.model import Interval, Kind, Market, Series, Span
from workers.sources import SMALL_CALLS, Mode

#: A candle is asked for only when it has been closed for this long; the exchange still corrects younger ones.
SETTLE_MS = 10_000
#: The same of events: an answer is believed up to a minute before the exchange's clock, which is known to some seconds.
EVENT_SETTLE_MS = 75_000


def closed_ms(interval: Interval, now_ms: int) -> int:
    """Return the end of what may be asked for at `now_ms` by the exchange's clock, ms UTC, on an open time."""
    return interval.floor(now_ms - (SETTLE_MS if interval.is_grid else EVENT_SETTLE_MS))


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
    """Whether it is not about what is missing, but about archive files that were published anew since."""

    @property
    def span(self) -> Span:
        return Span(self.start_ms, self.end_ms)

    @property
    def pool(self) -> Pool:
        """The pool whose weight it spends."""
        return pool_of(self.market, self.kind)

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
        return sum(page_count(any_series, block.span.clip(self.span)) for block in any_series.blocks(self.span))

    def weight_of_call(self) -> int:
        """Return the weight of this request's usual call."""
        first = next(self.series())
        return max(
            (page.weight for page in pages(first, next(first.blocks(self.span)).span.clip(self.span))), default=1
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Request:
        told = json.loads(text)
        return cls(
            Market(told["market"]),
            Kind(told["kind"]),
            Interval(told["interval"]),
            tuple(told["symbols"]),
            told["start_ms"],
            told["end_ms"],
            Mode(told["source"]),
            told["revise"],
        )

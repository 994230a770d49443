"""How missing time is cut into windows: pure arithmetic, no state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workers import spans
from workers.binance.markets import pages
from workers.model import Block, Series, Span, Window

#: Pages of one window, at most. A task costs Celery and the store some milliseconds, a page costs the exchange
#: hundreds: nine pages hide the one behind the other, and a symbol-year of 1m is still sixty windows.
PAGES_OF_WINDOW = 9


def missing(series: Series, held: Iterable[Span], wanted: Span) -> list[Span]:
    """Return the parts of `wanted` that are not held and that a candle can open in, oldest first.

    The first days of a year before its first Monday have no weekly candle: nothing is missing of them.
    """
    return [span for span in spans.gaps(held, wanted) if series.interval.opens(span.start_ms, span.end_ms)]


def windows(block: Block, parts: Iterable[Span]) -> Iterator[Window]:
    """Yield the windows that fetch `parts` of a block, oldest first, each of nearly as many pages as the others."""
    for span in parts:
        calls = list(pages(block.series, span))
        count = -(-len(calls) // PAGES_OF_WINDOW)
        for i in range(count):
            part = calls[len(calls) * i // count : len(calls) * (i + 1) // count]
            yield Window(block, Span(part[0].span.start_ms, part[-1].span.end_ms))

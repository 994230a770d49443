"""How missing time is cut into windows: pure arithmetic, no state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from klinefleet.workers.domain.paging import pages
from klinefleet.workers.domain.series import Block, Window
from klinefleet.workers.domain.spans import Span

#: Pages of one window, at most. A task costs Celery and the store some milliseconds, a page costs
#: the exchange hundreds: nine pages hide the one behind the other, and a symbol-year of 1m is still
#: sixty windows.
PAGES_OF_WINDOW = 9


def windows(block: Block, parts: Iterable[Span]) -> Iterator[Window]:
    """Yield the windows that fetch `parts` of a block, oldest first, each of nearly as many pages
    as the others.
    """
    for span in parts:
        calls = list(pages(block.series, span))
        count = -(-len(calls) // PAGES_OF_WINDOW)
        for i in range(count):
            part = calls[len(calls) * i // count : len(calls) * (i + 1) // count]
            yield Window(block, Span(part[0].span.start_ms, part[-1].span.end_ms))

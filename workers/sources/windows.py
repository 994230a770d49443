"""Cuts missing time into windows of REST pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from klinefleet.workers.domain.paging import pages
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span

#: Pages of one window, at most. A task costs Celery and the store some milliseconds, a page takes
#: the exchange hundreds: behind nine pages the task does not show. A symbol-year of 1m is still
#: sixty windows.
PAGES_PER_WINDOW = 9


def windows(partition: Partition, parts: Iterable[Span]) -> Iterator[Window]:
    """Yield the windows that fetch `parts` of a partition by REST, oldest first.

    Windows of one part have nearly the same number of pages.
    """
    for span in parts:
        calls = list(pages(partition.series, span))
        count = -(-len(calls) // PAGES_PER_WINDOW)
        for i in range(count):
            part = calls[len(calls) * i // count : len(calls) * (i + 1) // count]
            yield Window(partition, Span(part[0].span.start_ms, part[-1].span.end_ms))

"""The names of the Celery queues."""

from __future__ import annotations

from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.series import Window

PLAN, ARCHIVE, COMPACT = "plan", "archive", "compact"

#: Headers of a message: the Redis µs at which it counts as sent, and whether it goes first.
SENT_US, FIRST = "sent_us", "is_first"


def rest_queue(pool: Pool) -> str:
    """Return the queue whose tasks spend this pool's weight."""
    return f"rest.{pool}"


FETCH_QUEUES = (*map(rest_queue, Pool), ARCHIVE)
QUEUES = (PLAN, *FETCH_QUEUES, COMPACT)


def queue_of(window: Window) -> str:
    """Return a window's queue: the archive's, or that of the pool whose weight it spends."""
    series = window.partition.series
    return ARCHIVE if window.source.is_archive else rest_queue(series.kind.pool(series.market))

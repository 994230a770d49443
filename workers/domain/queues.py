"""The queues, as workers serve them, Flower shows them and an autoscaler counts them."""

from __future__ import annotations

from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.series import Window

PLAN, ARCHIVE, COMPACT = "plan", "archive", "compact"

#: Headers of a message: the Redis µs at which it counts as sent, and whether it goes before all
#: that waits.
SENT_US, FIRST = "sent_us", "is_first"


def rest_queue(pool: Pool) -> str:
    """Return the queue whose slots spend this pool's weight."""
    return f"rest.{pool}"


#: The queues of windows, and all there are.
FETCH_QUEUES = (*map(rest_queue, Pool), ARCHIVE)
QUEUES = (PLAN, *FETCH_QUEUES, COMPACT)


def queue_of(window: Window) -> str:
    """Return the queue that fetches a window: the archive's, or that of the pool whose weight it
    spends.
    """
    series = window.block.series
    return ARCHIVE if window.source.is_archive else rest_queue(series.kind.pool(series.market))

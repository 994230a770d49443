"""The queues, as workers serve them, Flower shows them and an autoscaler counts them."""

from __future__ import annotations

from workers.binance.markets import Pool

PLAN, ARCHIVE, COMPACT = "plan", "archive", "compact"


def rest_queue(pool: Pool) -> str:
    """Return the queue whose slots spend this pool's weight."""
    return f"rest.{pool}"

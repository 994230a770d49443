"""The lanes: one queue each, and how many of its tasks a process runs at once.

A lane is a Celery process of its own, so that one that waits for weight never blocks another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.queues import ARCHIVE, COMPACT, PLAN, rest_queue
from klinefleet.workers.support.machine import available_cpus
from klinefleet.workers.support.settings import Settings


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue, the pool whose weight its tasks spend, and its concurrency."""

    queue: str
    pool: Pool | None
    concurrency: Callable[[Settings], int]


def _fetch_concurrency(settings: Settings) -> int:
    """Return a third of the slots: a window has several pages, so these keep all slots busy.

    The rest of the queue stays for other workers.
    """
    return max(4, settings.slots // 3)


LANES = (
    Lane(PLAN, None, lambda _: 8),
    Lane(rest_queue(Pool.SPOT), Pool.SPOT, _fetch_concurrency),
    Lane(rest_queue(Pool.FUTURES), Pool.FUTURES, _fetch_concurrency),
    Lane(rest_queue(Pool.FUNDING), Pool.FUNDING, lambda _: 4),
    Lane(ARCHIVE, None, _fetch_concurrency),
    Lane(COMPACT, None, lambda settings: min(settings.slots, available_cpus())),
)


def parse_lanes(names: str | None) -> list[Lane]:
    """Return the lanes of a comma-separated list of queues; None means all of them.

    Raises RequestError for an unknown queue.
    """
    known = {lane.queue: lane for lane in LANES}
    queues = [name.strip() for name in names.split(",")] if names else list(known)
    for queue in queues:
        if queue not in known:
            raise RequestError(f"unknown queue {queue!r}; the queues are {', '.join(known)}")
    return [known[queue] for queue in queues]

"""The lanes: one queue each, and how many of its tasks a process runs at once.

A lane is a Celery process of its own, so that one that waits for weight never holds up another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.queues import ARCHIVE, COMPACT, PLAN, rest_queue
from klinefleet.workers.support.cpus import available_cpus
from klinefleet.workers.support.settings import Settings


@dataclass(frozen=True, slots=True)
class Lane:
    """One queue and how many of its tasks a process runs at once."""

    queue: str
    pool: Pool | None
    tasks: Callable[[Settings], int]


#: A third as many windows as slots: each has several pages, so the slots stay full, and other
#: workers get some too.
_FETCHES: Callable[[Settings], int] = lambda settings: max(4, settings.slots // 3)  # noqa: E731

LANES = (
    Lane(PLAN, None, lambda _: 8),
    Lane(rest_queue(Pool.SPOT), Pool.SPOT, _FETCHES),
    Lane(rest_queue(Pool.FUTURES), Pool.FUTURES, _FETCHES),
    Lane(rest_queue(Pool.FUNDING), Pool.FUNDING, lambda _: 4),
    Lane(ARCHIVE, None, _FETCHES),
    Lane(COMPACT, None, lambda settings: min(settings.slots, available_cpus())),
)


def lanes_of(names: str | None) -> list[Lane]:
    """Return the lanes of a comma-separated list of queues, all of them for None; RequestError for
    unknown ones.
    """
    known = {lane.queue: lane for lane in LANES}
    wanted = [name.strip() for name in names.split(",")] if names else list(known)
    for name in wanted:
        if name not in known:
            raise RequestError(f"no queue {name!r}; there are {', '.join(known)}")
    return [known[name] for name in wanted]

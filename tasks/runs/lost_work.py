"""Lost work: sent, and held by no message that waits and by no living worker, as when a worker was
killed.

A queue is first in, first out. What was sent before the message that is taken next waits no more:
it was taken, and is leased while somebody works on it. So lost work is found in a queue that is
never empty, too. Where two send at once, their messages may stand in another order than they were
noted in; then a copy may be sent, which changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from redis import Redis

from klinefleet.workers.coordination.leases import are_leased
from klinefleet.workers.coordination.redis_clock import now_us
from klinefleet.workers.domain.queues import SENT_US

#: How often lost work is looked for; what is missed twice in a row is lost.
LOOK_S = 3.0
#: The broker hands a message back a moment after it is noted as sent anew: so much later at most,
#: or it looks lost.
HANDED_BACK_US = 5_000_000


@dataclass(frozen=True, slots=True)
class Sent:
    """Work that was sent: what whoever does it holds, where its message went, and when, Redis µs."""

    lease: str
    queue: str
    sent_us: int


class LostWork:
    """Finds lost work by looking again and again; one for each who sends."""

    def __init__(
        self,
        redis: Redis,
        clock: Callable[[], float] = time.monotonic,
        *,
        interval_s: float = LOOK_S,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._interval_s = interval_s
        self._missed: set[Sent] = set()
        self._looked_s = clock()

    @property
    def is_due(self) -> bool:
        """Whether the last look was long enough ago."""
        return self._clock() - self._looked_s >= self._interval_s

    def among(self, sent: Iterable[Sent]) -> set[Sent]:
        """Return what of this was missed at the last look and is missed now."""
        self._looked_s = self._clock()
        missed = missing(self._redis, list(sent))
        lost = missed & self._missed
        self._missed = missed - lost
        return lost


def missing(redis: Redis, sent: list[Sent]) -> set[Sent]:
    """Return what no waiting message and no living worker holds now."""
    waits_since = {queue: waiting_since_us(redis, queue) for queue in {one.queue for one in sent}}
    taken = [one for one in sent if one.sent_us < waits_since[one.queue]]
    return {
        one
        for one, is_held in zip(taken, are_leased(redis, [one.lease for one in taken]), strict=True)
        if not is_held
    }


def waiting_since_us(redis: Redis, queue: str) -> int:
    """Return when the message that is taken next was sent, Redis µs: now where none waits, 0 where
    it does not say.
    """
    message = cast("bytes | None", redis.lindex(queue, -1))
    if message is None:
        return now_us(redis)
    try:
        return int(json.loads(message)["headers"].get(SENT_US) or 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0

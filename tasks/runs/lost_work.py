"""Finds lost work: sent, but neither waiting in its queue nor leased by a living worker.

Work is lost when a worker is killed, or with a Redis that lost messages.

Queues are first in, first out, so a message with a lower `sent_us` than the queue's next one was
taken already; then somebody must hold a lease on its work. This finds lost work in queues that are
never empty, too. If two processes send at once, their messages may be queued in another order than
their `sent_us`; then some work may be sent a second time, which changes nothing.
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

#: Seconds between two checks. Work that is missing in two checks in a row is lost.
CHECK_INTERVAL_S = 3.0
#: A requeued message enters its queue a moment after its new `sent_us` is noted: this much later at
#: most, or its work looks lost.
REQUEUE_GRACE_US = 5_000_000


@dataclass(frozen=True, slots=True)
class SentWork:
    """Work that was sent: the lease its worker takes, the queue of its message, and when."""

    lease: str
    queue: str
    sent_us: int


class LostWorkDetector:
    """Finds lost work by checking repeatedly; each sender has one of its own."""

    def __init__(
        self,
        redis: Redis,
        clock: Callable[[], float] = time.monotonic,
        *,
        interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._interval_s = interval_s
        self._missing_before: set[SentWork] = set()
        self._checked_s = clock()

    @property
    def is_due(self) -> bool:
        """Whether the last check is at least `interval_s` ago."""
        return self._clock() - self._checked_s >= self._interval_s

    def find_lost(self, sent: Iterable[SentWork]) -> set[SentWork]:
        """Return the work that is missing now and was at the last check."""
        self._checked_s = self._clock()
        missing = find_missing(self._redis, list(sent))
        lost = missing & self._missing_before
        self._missing_before = missing - lost
        return lost


def find_missing(redis: Redis, sent: list[SentWork]) -> set[SentWork]:
    """Return the work that is neither waiting in its queue nor leased at this moment."""
    next_us = {queue: next_sent_us(redis, queue) for queue in {work.queue for work in sent}}
    taken = [work for work in sent if work.sent_us < next_us[work.queue]]
    leased = are_leased(redis, [work.lease for work in taken])
    return {work for work, is_leased in zip(taken, leased, strict=True) if not is_leased}


def next_sent_us(redis: Redis, queue: str) -> int:
    """Return the `sent_us` of the queue's next message.

    That is the Redis time now if the queue is empty, so that all work counts as taken; 0 if the
    message has none, so that none does.
    """
    message = cast("bytes | None", redis.lindex(queue, -1))
    if message is None:
        return now_us(redis)
    try:
        return int(json.loads(message)["headers"].get(SENT_US) or 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0

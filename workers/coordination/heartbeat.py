"""A process's sign of life in Redis: that it lives, which queue it serves, and that its leases
still hold.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from typing import cast

from redis import Redis, RedisError

from klinefleet.workers.coordination.leases import LEASE_TTL_MS, Leases
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.redis_keys import WIDTHS, WORKERS

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats.
HEARTBEAT_INTERVAL_S = 2.0


class Heartbeat:
    """Renews the leases and the sign of life of this process, from a thread that does nothing else.

    What it holds lapses within `LEASE_TTL_MS` after it stops. `serves` names the queue the process
    works for, for a rest queue with @ and the egress; empty for one that serves none.
    """

    def __init__(
        self,
        redis: Redis,
        leases: Leases,
        *,
        serves: str = "",
        interval_s: float = HEARTBEAT_INTERVAL_S,
    ) -> None:
        self._redis = redis
        self._leases = leases
        self._serves = serves
        self._interval_s = interval_s
        self._name = f"{serves}|{socket.gethostname()}|{os.getpid()}"
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Stop beating and withdraw the sign of life."""
        self._stopped.set()
        with suppress(RedisError):
            self._redis.zrem(WORKERS, self._name)

    def beat(self) -> None:
        """Renew the leases and the sign of life once."""
        self._leases.renew()
        if self._serves:
            self._redis.zadd(WORKERS, {self._name: now_ms(self._redis) + LEASE_TTL_MS})

    def report_width(self, width: int, most: int) -> None:
        """Publish how many calls in flight this process lets through now, and at most."""
        self._redis.hset(WIDTHS, self._name, f"{width}/{most}/{now_ms(self._redis)}")

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.beat()
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the next beat comes
                logger.warning("heartbeat: %s: %s; trying again", type(error).__name__, error)
            self._stopped.wait(self._interval_s)


def total_width(redis: Redis, pool: str) -> tuple[int, int]:
    """Return what the living processes of a pool let through together: calls in flight now, and at
    most.
    """
    reported = cast("dict[bytes, bytes]", redis.hgetall(WIDTHS))
    fresh_ms, width, most = now_ms(redis) - 2 * LEASE_TTL_MS, 0, 0
    for name, values in reported.items():
        now, limit, at_ms, *_ = map(int, values.split(b"/"))
        if at_ms < fresh_ms:
            redis.hdel(WIDTHS, name)
        elif name.startswith(f"rest.{pool}@".encode()):
            width, most = width + now, most + limit
    return width, most


def any_worker_seen_recently(redis: Redis) -> bool:
    """Return whether a worker lives, or vanished less than 80 s ago."""
    return bool(redis.exists(WORKERS))


def live_workers(redis: Redis) -> list[str]:
    """Return the queue that each living process serves, for a rest queue with @ and the egress."""
    now = now_ms(redis)
    redis.zremrangebyscore(WORKERS, 0, now - 10 * LEASE_TTL_MS)
    names = cast("list[bytes]", redis.zrangebyscore(WORKERS, now, "+inf"))
    return [name.decode().split("|")[0] for name in names]


def live_egresses(redis: Redis, queue: str) -> list[str]:
    """Return the names of the public addresses by which living workers serve a rest queue."""
    served = [name.partition("@") for name in live_workers(redis)]
    return sorted({egress for name, _, egress in served if name == queue and egress})

"""A process's heartbeat in Redis: it keeps its leases, and shows its queue and its store."""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from typing import cast

from redis import Redis, RedisError

from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.coordination.leases import LEASE_TTL_MS, Leases
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.redis_keys import MEMORY, WIDTHS, WORKERS
from klinefleet.workers.support.log import RepeatedFailure
from klinefleet.workers.support.machine import memory_limit, peak_memory

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats.
HEARTBEAT_INTERVAL_S = 2.0
#: How long it is known that a worker was alive.
_RECENT_MS = 10 * LEASE_TTL_MS
#: How long it is kept how much memory a dead process had.
MEMORY_KEPT_MS = 86_400_000


def process_name(serves: str) -> str:
    """Return this process's name among the live workers."""
    return f"{serves}|{socket.gethostname()}|{os.getpid()}"


class Heartbeat:
    """Renews this process's leases and its entry among the live workers, from a thread of its own.

    All lapse within `LEASE_TTL_MS` after the last beat. serves: the queue the process serves, for
    a rest queue followed by @ and the egress; empty for a process that serves none. fleet_store:
    renewed as well, None for a process that serves no store.
    """

    def __init__(
        self,
        redis: Redis,
        leases: Leases,
        *,
        serves: str = "",
        fleet_store: FleetStore | None = None,
        interval_s: float = HEARTBEAT_INTERVAL_S,
    ) -> None:
        self._redis = redis
        self._leases = leases
        self._serves = serves
        self._fleet_store = fleet_store
        self._interval_s = interval_s
        self._name = process_name(serves)
        self._memory_limit = memory_limit()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread and remove the process from the live workers."""
        self._stopped.set()
        with suppress(RedisError):
            self._redis.zrem(WORKERS, self._name)
            self._redis.hdel(MEMORY, self._name)
            if self._fleet_store:
                self._fleet_store.release()

    def beat(self) -> None:
        """Renew the leases, the entry and the fleet's store once."""
        self._leases.renew()
        if self._serves:
            now = now_ms(self._redis)
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.zadd(WORKERS, {self._name: now + LEASE_TTL_MS})
                pipe.zremrangebyscore(WORKERS, 0, now - _RECENT_MS)
                pipe.hset(MEMORY, self._name, f"{peak_memory()}/{self._memory_limit}/{now}")
                pipe.pexpire(MEMORY, MEMORY_KEPT_MS)
                pipe.execute()
        if self._fleet_store:
            self._fleet_store.keep()

    def report_width(self, width: int, max_width: int) -> None:
        """Publish how many calls this process may have in flight now, and at most."""
        self._redis.hset(WIDTHS, self._name, f"{width}/{max_width}/{now_ms(self._redis)}")

    def _run(self) -> None:
        with suppress(RedisError):  # another process forgets them
            _forget_the_dead(self._redis)
        failure = RepeatedFailure(logger, "heartbeat")
        while not self._stopped.is_set():
            try:
                self.beat()
                failure.succeeded()
            except Exception as error:  # noqa: BLE001 - no error may stop the heartbeat
                failure.failed(describe(error))
            self._stopped.wait(self._interval_s)


def total_width(redis: Redis, pool: str) -> tuple[int, int]:
    """Return the calls that a pool's live processes may have in flight: now, and at most."""
    reports = cast("dict[bytes, bytes]", redis.hgetall(WIDTHS))
    expired_ms = now_ms(redis) - 2 * LEASE_TTL_MS
    total, max_total = 0, 0
    for process, report in reports.items():
        width, max_width, at_ms, *_ = map(int, report.split(b"/"))
        if at_ms >= expired_ms and process.startswith(f"rest.{pool}@".encode()):
            total, max_total = total + width, max_total + max_width
    return total, max_total


def any_worker_seen_recently(redis: Redis) -> bool:
    """Return True if a worker is alive or was within the last 80 s."""
    return bool(redis.zcount(WORKERS, now_ms(redis) - _RECENT_MS, "+inf"))


def live_workers(redis: Redis) -> list[str]:
    """Return the queue of each live worker; that of a rest queue ends with @ and the egress."""
    names = cast("list[bytes]", redis.zrangebyscore(WORKERS, now_ms(redis), "+inf"))
    return [name.decode().split("|")[0] for name in names]


def live_egresses(redis: Redis, queue: str) -> list[str]:
    """Return the egress names of the live workers of a rest queue, sorted."""
    served = [worker.partition("@") for worker in live_workers(redis)]
    return sorted(
        {egress for served_queue, _, egress in served if served_queue == queue and egress}
    )


def last_memory(redis: Redis, process: str) -> tuple[int, int] | None:
    """Return the most bytes that a process had, by its last heartbeat, and how many it might have.

    None where it is not known.
    """
    report = cast("bytes | None", redis.hget(MEMORY, process))
    if report is None:
        return None
    peak, limit, *_ = map(int, report.split(b"/"))
    return peak, limit


def _forget_the_dead(redis: Redis) -> None:
    """Forget what processes reported whose last report was long ago."""
    expired_ms = now_ms(redis) - MEMORY_KEPT_MS
    for key in (MEMORY, WIDTHS):
        reports = cast("dict[bytes, bytes]", redis.hgetall(key))
        old = [name for name, report in reports.items() if int(report.split(b"/")[2]) < expired_ms]
        if old:
            redis.hdel(key, *old)

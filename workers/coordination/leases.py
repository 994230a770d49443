"""Leases: the exclusive right to a piece of work, held by one live process at a time."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis, RedisError

from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import LeaseLost
from klinefleet.workers.domain.redis_keys import FENCE, LEASES, OWNERS

#: A lease, and a process's entry among the live workers, lapses this long after its last renewal.
LEASE_TTL_MS = 8_000

_SCRIPT = Path(__file__).with_name("lease.lua").read_text()


class Lease:
    """The exclusive right to a piece of work, valid while it is renewed."""

    def __init__(
        self, name: str, fence: int, until_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.fence = fence
        """The fencing number: later leases of the name have greater ones."""
        self._until_s = until_s
        self._clock = clock

    @property
    def is_lost(self) -> bool:
        """True if another process may hold the lease by now: it was not renewed in time."""
        return self._clock() >= self._until_s

    def check(self) -> None:
        """Raise LeaseLost if the lease is lost; only its next holder may write then."""
        if self.is_lost:
            raise LeaseLost(
                f"lease lost: {self.name} was not renewed in time and another process may have "
                "taken it; nothing more was written"
            )

    def extend(self, until_s: float) -> None:
        """Set until when it holds, on this process's clock; a past moment loses it."""
        self._until_s = until_s


class Leases:
    """The leases this process holds. A `Heartbeat` renews them; without one they lapse after their
    TTL. `holder`: this process's name in its heartbeat.
    """

    def __init__(self, redis: Redis, *, ttl_ms: int = LEASE_TTL_MS, holder: str = "") -> None:
        self._redis = redis
        self._holder = holder
        self._ttl_ms = ttl_ms
        self._held: dict[str, tuple[str, Lease]] = {}
        self._lock = threading.Lock()
        self._script = redis.register_script(_SCRIPT)

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease | None]:
        """Hold `name` while the block runs; yield None if another live process holds it."""
        owner, began_s = f"{self._holder}#{uuid.uuid4().hex}", time.monotonic()
        fence = int(self._run("take", name, owner))
        if not fence:
            yield None
            return
        lease = Lease(name, fence, began_s + self._ttl_ms / 1000)
        with self._lock:
            self._held[name] = owner, lease
        try:
            yield lease
        finally:
            with self._lock:
                self._held.pop(name, None)
            with suppress(RedisError):
                self._run("drop", name, owner)

    def renew(self) -> None:
        """Extend every lease held here by its TTL; mark those taken by another process as lost."""
        began_s = time.monotonic()
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        with self._redis.pipeline(transaction=False) as pipe:
            for name, (owner, _) in held.items():
                self._run("keep", name, owner, pipe)
            renewed = pipe.execute()
        for (_, lease), is_renewed in zip(held.values(), renewed, strict=True):
            lease.extend(began_s + self._ttl_ms / 1000 if int(is_renewed) else began_s)

    def _run(self, verb: str, name: str, owner: str, client: Redis | None = None) -> Any:
        return self._script(
            keys=[LEASES, OWNERS, FENCE], args=[verb, name, owner, self._ttl_ms], client=client
        )


def are_leased(redis: Redis, names: list[str]) -> list[bool]:
    """Return for each name whether a live process holds its lease."""
    if not names:
        return []
    now = now_ms(redis)
    scores = redis.zmscore(LEASES, names)
    return [score is not None and score > now for score in scores]


def dead_holders(redis: Redis, names: list[str]) -> dict[str, str]:
    """Return the leases that lapsed in somebody's hands, and who it was.

    A process that ends in order drops its leases; one that is killed, or stands still for long,
    does not.
    """
    if not names:
        return {}
    now = now_ms(redis)
    with redis.pipeline(transaction=False) as pipe:
        pipe.zmscore(LEASES, names)
        pipe.hmget(OWNERS, names)
        scores, owners = pipe.execute()
    return {
        name: (owner or b"").decode().rpartition("#")[0]
        for name, score, owner in zip(names, scores, owners, strict=True)
        if score is not None and score <= now
    }

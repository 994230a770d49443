"""A process's heartbeat in Redis: that it lives, what it serves, and what it is working on (its leases)."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from redis import Redis, RedisError

from workers.errors import LeaseLost

logger = logging.getLogger(__name__)

#: A lease or a sign of life holds for this long after the last beat.
HOLDS_MS = 8_000
BEAT_S = 2.0

LEASES, OWNERS, FENCE = "klines:leases", "klines:leases:owners", "klines:leases:fence"
WORKERS, WIDTHS = "klines:workers", "klines:widths"

#: KEYS[1] sorted set of leases (name -> Redis ms at which it lapses)   KEYS[2] hash (name -> owner)
#: KEYS[3] string, the last fencing number   ARGV[1] take | keep | drop   ARGV[2] name   ARGV[3] owner
#: ARGV[4] ms it holds
#: Returns for take the lease's fencing number, as a string; for keep and drop 1; 0 where the lease is another's.
#: Fencing numbers only ever grow: they are microseconds of Redis, and one more where two are taken in the same.
#: Cost: O(log n).
_LEASE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lives = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or 0) > now
if ARGV[1] == 'take' then
  if lives then return 0 end
elseif redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] or not redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  return 0
end
if ARGV[1] == 'drop' then
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[2], ARGV[2])
  return 1
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if ARGV[1] == 'keep' then return 1 end
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local fence = math.max(micros, tonumber(redis.call('GET', KEYS[3]) or 0) + 1)
redis.call('SET', KEYS[3], string.format('%.0f', fence))
return string.format('%.0f', fence)
"""


class Lease:
    """Sole right to some work, while it is kept alive."""

    def __init__(self, name: str, fence: int, until_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.fence = fence
        """The fencing number: later leases of the name have greater ones."""
        self._until_s = until_s
        self._clock = clock

    @property
    def is_lost(self) -> bool:
        """Whether somebody else may do the work by now, as this process was stopped or Redis away for too long."""
        return self._clock() >= self._until_s

    def check(self) -> None:
        """Raise LeaseLost where it is lost: what comes after is the successor's to write."""
        if self.is_lost:
            raise LeaseLost(
                f"{self.name}: this process stood still, another may do it by now; nothing more was written"
            )

    def kept_until(self, until_s: float) -> None:
        """Note that it holds until this moment of the clock; a moment in the past loses it."""
        self._until_s = until_s


class Heart:
    """Beats every two seconds, from a thread that does nothing else; what it holds lapses soon after it stops."""

    def __init__(self, redis: Redis, *, serves: str = "") -> None:
        self._redis = redis
        self._serves = serves
        self._name = f"{serves}|{socket.gethostname()}|{os.getpid()}"
        self._held: dict[str, tuple[str, Lease]] = {}
        self._lock = threading.Lock()
        self._lease = redis.register_script(_LEASE)
        self._stopped = threading.Event()

    def tell_width(self, width: int, most: int) -> None:
        """Say how many calls in flight this process lets through now, and at most."""
        told = f"{width}/{most}/{now_ms(self._redis)}"
        self._redis.hset(WIDTHS, self._name, told)

    def widths(self, pool: str) -> tuple[int, int]:
        """Return the sums of what the living processes of a pool have told: calls let through now, and at most."""
        told = cast("dict[bytes, bytes]", self._redis.hgetall(WIDTHS))
        fresh_ms, width, most = now_ms(self._redis) - 2 * HOLDS_MS, 0, 0
        for name, values in told.items():
            now, limit, at_ms, *_ = map(int, values.split(b"/"))
            if at_ms < fresh_ms:
                self._redis.hdel(WIDTHS, name)
            elif name.startswith(f"rest.{pool}@".encode()):
                width, most = width + now, most + limit
        return width, most

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    def stop(self) -> None:
        """Stop beating and say that this process serves no more."""
        self._stopped.set()
        with suppress(RedisError):
            self._redis.zrem(WORKERS, self._name)

    @contextmanager
    def lease(self, name: str) -> Iterator[Lease | None]:
        """Hold `name` while the block runs; yields None where somebody living holds it."""
        owner, asked_s = uuid.uuid4().hex, time.monotonic()
        fence = int(self._ask("take", name, owner))
        if not fence:
            yield None
            return
        lease = Lease(name, fence, asked_s + HOLDS_MS / 1000)
        with self._lock:
            self._held[name] = owner, lease
        try:
            yield lease
        finally:
            with self._lock:
                self._held.pop(name, None)
            with suppress(RedisError):
                self._ask("drop", name, owner)

    def _ask(self, verb: str, name: str, owner: str, client: Redis | None = None) -> Any:
        return self._lease(keys=[LEASES, OWNERS, FENCE], args=[verb, name, owner, HOLDS_MS], client=client)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._beat()
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the heart beats on
                logger.warning("heartbeat: %s: %s; trying again", type(error).__name__, error)
            self._stopped.wait(BEAT_S)

    def _beat(self) -> None:
        asked_s = time.monotonic()
        lapses = now_ms(self._redis) + HOLDS_MS
        with self._lock:
            held = dict(self._held)
        with self._redis.pipeline(transaction=False) as pipe:
            for name, (owner, _) in held.items():
                self._ask("keep", name, owner, pipe)
            if self._serves:
                pipe.zadd(WORKERS, {self._name: lapses})
            kept = pipe.execute()
        for (_, lease), is_kept in zip(held.values(), kept, strict=False):
            lease.kept_until(asked_s + HOLDS_MS / 1000 if int(is_kept) else asked_s)


def remembered(redis: Redis) -> bool:
    """Return whether any process serves, or stopped beating less than 80 s ago without a word."""
    return bool(redis.exists(WORKERS))


def living(redis: Redis) -> list[str]:
    """Return what each living process serves: a queue's name, for a rest queue with @ and the egress."""
    now = now_ms(redis)
    redis.zremrangebyscore(WORKERS, 0, now - 10 * HOLDS_MS)
    names = cast("list[bytes]", redis.zrangebyscore(WORKERS, now, "+inf"))
    return [name.decode().split("|")[0] for name in names]


def egresses(redis: Redis, queue: str) -> list[str]:
    """Return the names of the public addresses by which living workers serve a rest queue."""
    served = [name.partition("@") for name in living(redis)]
    return sorted({egress for name, _, egress in served if name == queue and egress})


def leased(redis: Redis, names: list[str]) -> list[bool]:
    """Return for each name whether somebody living holds it."""
    if not names:
        return []
    now = now_ms(redis)
    scores = redis.zmscore(LEASES, names)
    return [score is not None and score > now for score in scores]


def now_ms(redis: Redis) -> int:
    """Return Redis's time, which all processes share."""
    return now_us(redis) // 1000


def now_us(redis: Redis) -> int:
    """Return the same in microseconds."""
    seconds, micros = redis.time()
    return int(seconds * 1_000_000 + micros)

"""The weight budget in Redis: three verbs, each one O(1) Lua script.

How it counts is told in budget_state.lua.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from redis import Redis

from klinefleet.workers.domain.redis_keys import budget_key
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import (
    MILLION,
    Grant,
    Minute,
    PoolState,
    Wait,
    never_fits_error,
)

_HERE = Path(__file__).parent
_SCRIPTS = {
    verb: (_HERE / "budget_state.lua").read_text() + (_HERE / f"{verb}.lua").read_text()
    for verb in ("take", "learn", "close")
}
#: What take.lua returns first where the call fits in no minute.
_NEVER = -1

#: A probe whose answer never comes is given up after this long; longer than any request's timeout.
PROBE_MS = 60_000


class RedisBudget:
    """One pool's budget, shared through Redis by every worker of one egress.

    Redis gone: nobody gets weight.
    """

    def __init__(
        self, redis: Redis, pool: str, egress: str, *, share: float = 1.0, now_ms: int | None = None
    ) -> None:
        name = budget_key(pool, egress)
        self.pool, self.egress = pool, egress
        self._redis = redis
        self._keys = [f"{name}:pool", *(f"{name}:minute:{slot}" for slot in range(3))]
        self._share = share
        self._scripts = {verb: redis.register_script(script) for verb, script in _SCRIPTS.items()}
        self.now_ms = now_ms
        """Redis time as tests set it; None for the server's own."""

    def take(self, weight: int, place: int | None = None) -> Grant | Wait:
        millionths = round(self._share * MILLION)
        first, *rest = self._run(
            "take", weight, millionths, -1 if place is None else place, PROBE_MS
        )
        if first == _NEVER:
            most, limit = rest
            raise never_fits_error(weight, self._share, most, limit)
        if not first:
            ms, kept, closed = rest
            return Wait(ms, None if kept < 0 else kept, bool(closed))
        minute, at_ms, left, minute_left_ms, rtt_ms = rest
        return Grant(weight, minute, at_ms, left, minute_left_ms, rtt_ms)

    def learn(
        self,
        grant: Grant,
        *,
        used: int | None,
        date_ms: int | None,
        served: bool,
        rtt_ms: int | None = None,
    ) -> None:
        told = (used, date_ms, int(served), rtt_ms)
        self._run(
            "learn",
            grant.weight,
            grant.minute,
            grant.at_ms,
            *(-1 if v is None else v for v in told),
        )

    def close_until(self, *, at_ms: int | None = None, after_ms: int | None = None) -> None:
        self._run("close", -1 if at_ms is None else at_ms, -1 if after_ms is None else after_ms)

    def set_limit(self, limit: int) -> None:
        self._redis.hset(self._keys[0], "limit", str(limit))

    def state(self) -> PoolState:
        """Return what is known of the pool now."""
        now_ms, pool, counts = self._read()
        offset_ms = _offset_ms(pool)
        count = counts.get((now_ms + (offset_ms or 0)) // MINUTE_MS, {})
        used = max(count.get("spent", 0), count.get("header", 0))
        closed_ms = max(0, pool.get("closed", 0) - now_ms)
        return PoolState(
            pool.get("limit"),
            used,
            count.get("reserved", 0),
            closed_ms,
            pool.get("rtt"),
            offset_ms,
            None if offset_ms is None else pool.get("seen"),
        )

    def last_minute(self) -> Minute | None:
        """Return how the last full minute of the exchange stood at its end, None where nothing was
        spent in it.
        """
        now_ms, pool, counts = self._read()
        minute = (now_ms + (_offset_ms(pool) or 0)) // MINUTE_MS - 1
        count = counts.get(minute)
        return Minute(minute, count.get("spent", 0), count.get("header", 0)) if count else None

    def _read(self) -> tuple[int, dict[str, int], dict[int, dict[str, int]]]:
        """Return Redis ms, the pool's fields, and those of its minutes."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for key in self._keys:
                pipe.hgetall(key)
            (seconds, micros), *hashes = pipe.execute()
        pool, *counts = [{_text(k): int(v) for k, v in h.items()} for h in hashes]
        now_ms = self.now_ms or seconds * 1000 + micros // 1000
        return now_ms, pool, {count["minute"]: count for count in counts if "minute" in count}

    def _run(self, verb: str, *args: int) -> list[int]:
        return cast(list[int], self._scripts[verb](keys=self._keys, args=[self.now_ms or 0, *args]))


def _offset_ms(pool: dict[str, int]) -> int | None:
    return (pool["lo"] + pool["hi"]) // 2 if "lo" in pool else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

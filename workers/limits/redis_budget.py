"""The weight budget in Redis: three verbs, each one Lua script of constant cost.

`budget_state.lua` documents what is stored, `others.lua` how others on the address are made room
for, `take.lua` how weight is granted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from redis import Redis

from klinefleet.workers.domain.redis_keys import budget_key
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import (
    MILLION,
    Closing,
    Grant,
    Minute,
    PoolState,
    Wait,
    never_fits_error,
)

_FOLDER = Path(__file__).parent
#: The script of each verb: what they share comes first.
SCRIPTS = {
    verb: "".join(
        (_FOLDER / f"{part}.lua").read_text() for part in ("budget_state", "others", verb)
    )
    for verb in ("take", "learn", "close")
}
#: First number that take.lua returns for a call that fits in no minute.
_NEVER = -1

#: An unanswered trial call is given up after this time; longer than any request's timeout.
TRIAL_TIMEOUT_MS = 60_000


class RedisBudget:
    """One pool's budget, shared through Redis by all workers of one egress.

    Without Redis nobody gets weight.
    """

    def __init__(
        self, redis: Redis, pool: str, egress: str, *, share: float = 1.0, now_ms: int | None = None
    ) -> None:
        prefix = budget_key(pool, egress)
        self.pool, self.egress = pool, egress
        self._redis = redis
        self._pool_key = f"{prefix}:pool"
        self._minute_keys = [f"{prefix}:minute:{slot}" for slot in range(3)]
        self._keys = [self._pool_key, *self._minute_keys, f"{prefix}:others"]
        self._share = share
        self._scripts = {verb: redis.register_script(script) for verb, script in SCRIPTS.items()}
        self.now_ms = now_ms
        """Redis time as tests set it; None for the server's own."""

    def take(self, weight: int, reservation: int | None = None) -> Grant | Wait:
        millionths = round(self._share * MILLION)
        granted, *answer = self._run(
            "take", weight, millionths, _or_minus_one(reservation), TRIAL_TIMEOUT_MS
        )
        if granted == _NEVER:
            allowed, limit = answer
            raise never_fits_error(weight, self._share, allowed, limit)
        if not granted:
            wait_ms, reserved, closed = answer
            return Wait(wait_ms, None if reserved < 0 else reserved, bool(closed))
        minute, at_ms, left, minute_left_ms, rtt_ms = answer
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
        outcome = (used, date_ms, int(served), rtt_ms)
        self._run("learn", grant.weight, grant.minute, grant.at_ms, *map(_or_minus_one, outcome))

    def close_until(self, *, at_ms: int | None = None, after_ms: int | None = None) -> Closing:
        for_ms, asked_ms = self._run("close", _or_minus_one(at_ms), _or_minus_one(after_ms))
        return Closing(for_ms, asked_ms)

    def reopen(self) -> None:
        """Let one trial call go out now; if it is served, the closed pool is open again."""
        fields = {"closed": 0, "banend": 0, "refusals": 0, "probe": 0}
        self._redis.hset(self._pool_key, mapping=fields)  # type: ignore[arg-type]

    def set_limit(self, limit: int) -> None:
        self._redis.hset(self._pool_key, "limit", str(limit))

    def state(self) -> PoolState:
        """Return the pool's state now."""
        now_ms, pool, counts = self._read()
        offset_ms = _offset_ms(pool)
        count = counts.get((now_ms + (offset_ms or 0)) // MINUTE_MS, {})
        return PoolState(
            limit=pool.get("limit"),
            used=max(count.get("spent", 0), count.get("header", 0)),
            reserved=count.get("reserved", 0),
            closed_ms=max(0, pool.get("closed", 0) - now_ms),
            asked_ms=max(0, pool.get("banend", 0) - now_ms),
            rtt_ms=pool.get("rtt"),
            offset_ms=offset_ms,
            offset_at_ms=None if offset_ms is None else pool.get("seen"),
        )

    def last_minute(self) -> Minute | None:
        """Return the exchange's last full minute; None if nothing was spent in it."""
        now_ms, pool, counts = self._read()
        minute = (now_ms + (_offset_ms(pool) or 0)) // MINUTE_MS - 1
        count = counts.get(minute)
        return Minute(minute, count.get("spent", 0), count.get("header", 0)) if count else None

    def _read(self) -> tuple[int, dict[str, int], dict[int, dict[str, int]]]:
        """Return Redis ms, the pool's stored fields, and those of each stored minute."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for key in (self._pool_key, *self._minute_keys):
                pipe.hgetall(key)
            (seconds, micros), *hashes = pipe.execute()
        pool, *counts = [{_text(k): int(v) for k, v in h.items()} for h in hashes]
        now_ms = self.now_ms or seconds * 1000 + micros // 1000
        return now_ms, pool, {count["minute"]: count for count in counts if "minute" in count}

    def _run(self, verb: str, *args: int) -> list[int]:
        args = (self.now_ms or 0, *args)
        return cast(list[int], self._scripts[verb](keys=self._keys, args=args))


def _or_minus_one(value: int | None) -> int:
    """Return -1 for None, as the scripts expect it."""
    return -1 if value is None else value


def _offset_ms(pool: dict[str, int]) -> int | None:
    return (pool["lo"] + pool["hi"]) // 2 if "lo" in pool else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

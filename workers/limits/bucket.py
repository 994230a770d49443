"""The weight budget in Redis: three verbs, each one O(1) Lua script. How it counts is told in books.lua."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from redis import Redis

from workers.errors import SettingsError
from workers.model import MINUTE_MS

_HERE = Path(__file__).parent
_SCRIPTS = {
    verb: (_HERE / "books.lua").read_text() + (_HERE / f"{verb}.lua").read_text() for verb in ("take", "learn", "close")
}

#: Shares are counted in millionths: below one, no limit that an exchange could have leaves room for any call.
MILLION = 1_000_000
#: What take.lua returns first where the call fits in no minute.
_NEVER = -1

#: A probe whose answer never comes is given up after this long; longer than any request's timeout.
PROBE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one call now; `learn` must be told how it went."""

    weight: int
    minute: int
    at_ms: int
    left: int
    """Weight still free for us in this minute."""
    minute_left_ms: int
    rtt_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No leave yet: ask again after `ms`, with `place`, the minute in which weight is kept for the caller."""

    ms: int
    place: int | None
    is_closed: bool = False
    """Whether the exchange closed the pool; otherwise its minute is full, or its clock not yet known."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """What is known of a pool now, for people and for the autoscaler."""

    limit: int | None
    used: int
    """Weight counted in the running minute, by us and others."""
    reserved: int
    closed_ms: int
    """How long the pool stays closed; 0 while it is open."""
    rtt_ms: int | None
    offset_ms: int | None
    """Exchange clock minus Redis clock."""
    offset_at_ms: int | None = None
    """Redis ms at which the offset was last learned."""


def never_fits(weight: int, share: float, most: int, limit: int) -> SettingsError:
    """Return the error of a call that costs more than the `most` we may ever spend of the limit in a minute."""
    return SettingsError(
        f"KLINES_WEIGHT_SHARE was {share}, which leaves {most:,} of the exchange's {limit:,} weight a minute; "
        f"a call of weight {weight} never fits and was not sent"
    )


def together(states: Collection[PoolState]) -> PoolState:
    """Return what several addresses have in all: it is closed while all of them are."""
    trips = [state.rtt_ms for state in states if state.rtt_ms is not None]
    return PoolState(
        limit=sum(state.limit or 0 for state in states) or None,
        used=sum(state.used for state in states),
        reserved=sum(state.reserved for state in states),
        closed_ms=min(state.closed_ms for state in states),
        rtt_ms=sum(trips) // len(trips) if trips else None,
        offset_ms=next((state.offset_ms for state in states if state.offset_ms is not None), None),
    )


@dataclass(frozen=True, slots=True)
class Minute:
    """One calendar minute of the exchange at one egress."""

    minute: int
    """Minutes since the epoch."""
    spent: int
    """Weight of our own calls."""
    header: int
    """Weight of all calls from the address, as the exchange last reported it."""


class Budget(Protocol):
    """The weight of one pool and egress."""

    pool: str
    egress: str

    def take(self, weight: int, place: int | None = None) -> Grant | Wait:
        """Return at once: leave to send a call of this weight, or how long to wait before asking again.

        A place that is shown in its minute, or to a pool that the exchange has closed, is given back. SettingsError
        where the call costs more than our share of the exchange's limit: no minute will ever have room for it.
        """
        ...

    def learn(
        self, grant: Grant, *, used: int | None, date_ms: int | None, served: bool, rtt_ms: int | None = None
    ) -> None:
        """Note how a granted call went; an unanswered one is learned with all that is unknown as None."""
        ...

    def close_until(self, *, at_ms: int | None = None, after_ms: int | None = None) -> None:
        """Close the pool for everybody until the exchange's `at_ms`, for `after_ms`, or to the next minute."""
        ...

    def set_limit(self, limit: int) -> None:
        """Note the weight that the exchange allows in a calendar minute."""
        ...


class RedisBudget:
    """One pool's budget, shared through Redis by every worker of one egress. Redis gone: nobody gets weight."""

    def __init__(self, redis: Redis, pool: str, egress: str, *, share: float = 1.0, now_ms: int | None = None) -> None:
        name = f"klines:budget:{{{pool}@{egress}}}"
        self.pool, self.egress = pool, egress
        self._redis = redis
        self._keys = [f"{name}:pool", *(f"{name}:minute:{slot}" for slot in range(3))]
        self._share = share
        self._scripts = {verb: redis.register_script(script) for verb, script in _SCRIPTS.items()}
        self.now_ms = now_ms
        """Redis time as tests set it; None for the server's own."""

    def take(self, weight: int, place: int | None = None) -> Grant | Wait:
        millionths = round(self._share * MILLION)
        first, *rest = self._run("take", weight, millionths, -1 if place is None else place, PROBE_MS)
        if first == _NEVER:
            most, limit = rest
            raise never_fits(weight, self._share, most, limit)
        if not first:
            ms, kept, closed = rest
            return Wait(ms, None if kept < 0 else kept, bool(closed))
        minute, at_ms, left, minute_left_ms, rtt_ms = rest
        return Grant(weight, minute, at_ms, left, minute_left_ms, rtt_ms)

    def learn(
        self, grant: Grant, *, used: int | None, date_ms: int | None, served: bool, rtt_ms: int | None = None
    ) -> None:
        told = (used, date_ms, int(served), rtt_ms)
        self._run("learn", grant.weight, grant.minute, grant.at_ms, *(-1 if v is None else v for v in told))

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
        """Return how the last full minute of the exchange stood at its end, None where nothing was spent in it."""
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

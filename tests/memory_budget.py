"""The weight budget inside one process: the twin of the Lua scripts, for tests and for a single
process alone.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import MILLION, Grant, Wait, never_fits_error
from klinefleet.workers.limits.redis_budget import PROBE_MS
from klinefleet.workers.support.clock import Clock

BOOTSTRAP_LIMIT = 60
SKEW_MS = 25
DRIFT = 0.0002
RESERVE = 0.005
FOREIGN_MARGIN = 0.01
PACE_MS = 1_000
EDGE_SPARE = 0.25
LATE_MS = 10_000
DOUBTFUL = 1.25
LOOK_AGAIN_MS = 3_000


@dataclass
class _Count:
    """One calendar minute of the exchange, as we count it; the fields are those of
    budget_state.lua.
    """

    minute: int
    spent: int = 0
    flying: int = 0
    header: int = 0
    at: int = 0
    others: int = 0
    reserved: int = 0
    opened: bool = False


@dataclass
class _Bounds:
    """Between what the exchange's clock minus ours lies, ms, and when that was last narrowed."""

    lo: int = 0
    hi: int = 0
    seen: int | None = None


@dataclass
class _Pool:
    limit: int | None = None
    closed: int = 0
    probing: bool = False
    probe: int = 0
    looked: int = 0
    foreign: float = 0
    rtt: float | None = None
    bounds: _Bounds = field(default_factory=_Bounds)
    counts: dict[int, _Count] = field(default_factory=dict)


class MemoryBudget:
    """The same promises as RedisBudget, for the threads of one process."""

    pool = egress = "memory"

    def __init__(self, clock: Clock, *, share: float = 1.0) -> None:
        self._clock = clock
        self._share = share
        self._pool = _Pool()
        self._lock = threading.Lock()

    def take(self, weight: int, place: int | None = None) -> Grant | Wait:
        with self._lock:
            return self._take(self._clock.now_ms(), weight, place)

    def learn(
        self,
        grant: Grant,
        *,
        used: int | None,
        date_ms: int | None,
        served: bool,
        rtt_ms: int | None = None,
    ) -> None:
        with self._lock:
            self._learn(
                self._clock.now_ms(), grant, -1 if used is None else used, date_ms, served, rtt_ms
            )

    def close_until(self, *, at_ms: int | None = None, after_ms: int | None = None) -> None:
        now = self._clock.now_ms()
        with self._lock:
            if at_ms is not None:
                ends = at_ms - self._pool.bounds.lo + SKEW_MS
            else:
                ends = now + (
                    MINUTE_MS - self._earliest(now) % MINUTE_MS if after_ms is None else after_ms
                )
            self._pool.closed = max(self._pool.closed, ends)
            self._pool.probing, self._pool.probe = True, 0

    def set_limit(self, limit: int) -> None:
        self._pool.limit = limit

    def _take(self, now: int, weight: int, place: int | None) -> Grant | Wait:
        pool, minute = self._pool, self._earliest(now) // MINUTE_MS
        limit, knows_clock = pool.limit or BOOTSTRAP_LIMIT, pool.bounds.seen is not None
        ours = self._ours(limit)
        most = math.floor(min(ours, limit * (1 - RESERVE)))
        if pool.limit and weight > most:
            raise never_fits_error(weight, self._share, most, limit)
        certain = minute == self._latest(now) // MINUTE_MS
        begins_in = math.ceil(((minute + 1) * MINUTE_MS - self._earliest(now)) * (1 + DRIFT))
        count = self._open(minute)
        is_closed = now < pool.closed
        if place == minute + 1 and not is_closed:
            return Wait(begins_in, place)
        if place in (minute, minute + 1):
            held = self._count(place)
            held.reserved = max(0, held.reserved - weight)
        if is_closed:
            return Wait(pool.closed - now, None, is_closed=True)
        is_probe = pool.probing or not knows_clock
        if is_probe and now < pool.probe:
            return Wait(max(1, math.ceil(min(pool.rtt or 300, pool.probe - now))), None)

        places = 0 if place == minute or MINUTE_MS - begins_in > LATE_MS else count.reserved
        room = limit * (1 - RESERVE) - self._used(count)
        full = math.floor(min(room, ours - count.spent))
        seen, paced = _others_in(count)
        is_doubtful = paced > pool.foreign * DOUBTFUL + limit * FOREIGN_MARGIN
        looks_ahead = begins_in // LOOK_AGAIN_MS if is_doubtful else 0
        others = self._others(seen, paced, limit) + weight * looks_ahead
        left = math.floor(min(room - others, ours - count.spent) - places)
        spare = limit * EDGE_SPARE + weight
        following = self._count(minute + 1)
        unspent = ours - following.spent - following.reserved - count.flying
        unseen = (
            paced * (self._latest(now) - minute * MINUTE_MS - count.at) / MINUTE_MS
            + limit * FOREIGN_MARGIN
        )
        is_kept = left < weight <= full - places - unseen and begins_in > LOOK_AGAIN_MS
        looks = is_kept and is_doubtful and now - pool.looked >= LOOK_AGAIN_MS
        if certain or not knows_clock or min(left, unspent) >= spare:
            if weight <= left or looks:
                count.spent += weight
                count.flying += weight
                pool.probe = now + PROBE_MS if is_probe else pool.probe
                pool.looked = now if looks else pool.looked
                return Grant(
                    weight, minute, now, max(0, left - weight), begins_in, int(pool.rtt or 300)
                )
            if weight <= full and begins_in > LOOK_AGAIN_MS:
                return Wait(LOOK_AGAIN_MS, None)
        return self._place(weight, limit, minute, begins_in)

    def _ours(self, limit: int) -> float:
        return limit * round(self._share * MILLION) / MILLION

    def _place(self, weight: int, limit: int, minute: int, begins_in: int) -> Wait:
        following = self._count(minute + 1)
        room = min(self._ours(limit), limit * (1 - RESERVE) - self._pool.foreign)
        if weight > room - following.spent - following.reserved:
            return Wait(begins_in, None)
        following.reserved += weight
        return Wait(begins_in, minute + 1)

    def _others(self, seen: int, paced: float, limit: int) -> float:
        expected = max(self._pool.foreign, paced)
        return max(0.0, expected - seen) + limit * FOREIGN_MARGIN if expected > 0 else 0.0

    def _used(self, count: _Count) -> int:
        before = self._pool.counts.get(count.minute - 1)
        return max(
            count.spent + count.others,
            count.header + count.flying + (before.flying if before else 0),
        )

    def _learn(
        self,
        now: int,
        grant: Grant,
        used: int,
        date_ms: int | None,
        served: bool,
        rtt_ms: int | None,
    ) -> None:
        pool, knew_clock = self._pool, self._pool.bounds.seen is not None
        if date_ms is not None:
            self._narrow(now, date_ms - now, date_ms + 999 - grant.at_ms)
        charged = pool.counts.get(grant.minute)
        if charged:
            charged.flying = max(0, charged.flying - grant.weight)
        minute_now = self._latest(now) // MINUTE_MS
        if date_ms is not None and not knew_clock:
            current = self._open(self._earliest(now) // MINUTE_MS)
            current.spent += charged.spent if charged and current is not charged else 0
            self._raise_header(current, used, now, grant)
        elif minute_now != grant.minute:
            if minute_now == grant.minute + 1 and not (following := self._count(minute_now)).opened:
                following.spent += grant.weight
            if charged and date_ms is not None and date_ms // MINUTE_MS == grant.minute:
                self._raise_header(charged, used, now, grant)
        elif charged:
            self._raise_header(charged, used, now, grant)
        if rtt_ms is not None:
            pool.rtt = rtt_ms if pool.rtt is None else (pool.rtt * 7 + rtt_ms) / 8
        if not knew_clock or (pool.probing and grant.at_ms >= pool.closed):
            pool.probe = 0
            pool.probing = pool.probing and not (knew_clock and served)

    def _raise_header(self, count: _Count, used: int, now: int, grant: Grant) -> None:
        if used > count.header:
            count.header = used
            count.others = max(count.others, used - count.spent)
            count.at = min(
                MINUTE_MS,
                max(0, self._latest(now) - (now - grant.at_ms) // 2 - count.minute * MINUTE_MS),
            )

    def _narrow(self, now: int, lo: int, hi: int) -> None:
        bounds, drift = self._pool.bounds, self._drift(now)
        first = bounds.seen is None
        if not first and max(lo, bounds.lo - drift) <= min(hi, bounds.hi + drift):
            lo, hi = max(lo, bounds.lo - drift), min(hi, bounds.hi + drift)
        seen = now if first or drift > 0 else bounds.seen
        self._pool.bounds = _Bounds(lo, hi, seen)

    def _open(self, minute: int) -> _Count:
        count, before = self._count(minute), self._pool.counts.get(minute - 1)
        if not count.opened:
            count.opened = True
            count.spent += before.flying if before else 0
            foreign = _others_in(before)[1] if before else 0
            self._pool.foreign = max(foreign, (self._pool.foreign + foreign) / 2)
        return count

    def _count(self, minute: int) -> _Count:
        counts = self._pool.counts
        if minute not in counts:
            counts[minute] = _Count(minute)
            for old in [m for m in counts if abs(m - minute) > 2]:
                del counts[old]
        return counts[minute]

    def _drift(self, now: int) -> int:
        seen = self._pool.bounds.seen
        return int((now - (now if seen is None else seen)) * DRIFT)

    def _earliest(self, now: int) -> int:
        return now + self._pool.bounds.lo - self._drift(now) - SKEW_MS

    def _latest(self, now: int) -> int:
        return now + self._pool.bounds.hi + self._drift(now) + SKEW_MS


def _others_in(count: _Count) -> tuple[int, float]:
    """Return what others surely spent in this minute so far, and what they will have by its end at
    that pace.
    """
    return count.others, count.others * MINUTE_MS / max(count.at, PACE_MS)

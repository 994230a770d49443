"""The weight budget inside one process: the rules of the Lua scripts once more, for tests."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import MILLION, Grant, Wait, never_fits_error
from klinefleet.workers.limits.redis_budget import TRIAL_TIMEOUT_MS
from klinefleet.workers.support.clock import Clock

BOOTSTRAP_LIMIT = 60
CLOCK_SKEW_MS = 25
CLOCK_DRIFT = 0.0002
RESERVE = 0.005
OTHERS_MARGIN = 0.01
MIN_PACE_MS = 1_000
EDGE_SPARE = 0.25
LATE_MS = 10_000
UNUSUAL_PACE = 1.25
PROBE_INTERVAL_MS = 3_000


@dataclass
class _Count:
    """One calendar minute of the exchange; the fields are those of budget_state.lua."""

    minute: int
    spent: int = 0
    in_flight: int = 0
    header: int = 0
    header_at: int = 0
    others: int = 0
    reserved: int = 0
    is_open: bool = False


@dataclass
class _Bounds:
    """Bounds of (exchange clock - own clock), ms, and when they were last narrowed."""

    low: int = 0
    high: int = 0
    at: int | None = None


@dataclass
class _Pool:
    limit: int | None = None
    closed_until: int = 0
    is_reopening: bool = False
    trial_until: int = 0
    last_probe_ms: int = 0
    others_per_minute: float = 0
    rtt: float | None = None
    bounds: _Bounds = field(default_factory=_Bounds)
    counts: dict[int, _Count] = field(default_factory=dict)


class MemoryBudget:
    """The contract of RedisBudget for the threads of one process."""

    pool = egress = "memory"

    def __init__(self, clock: Clock, *, share: float = 1.0) -> None:
        self._clock = clock
        self._share = share
        self._pool = _Pool()
        self._lock = threading.Lock()

    def take(self, weight: int, reservation: int | None = None) -> Grant | Wait:
        with self._lock:
            return self._take(self._clock.now_ms(), weight, reservation)

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
                closed_until = at_ms - self._pool.bounds.low + CLOCK_SKEW_MS
            else:
                closed_until = now + (
                    MINUTE_MS - self._earliest(now) % MINUTE_MS if after_ms is None else after_ms
                )
            self._pool.closed_until = max(self._pool.closed_until, closed_until)
            self._pool.is_reopening, self._pool.trial_until = True, 0

    def set_limit(self, limit: int) -> None:
        self._pool.limit = limit

    def _take(self, now: int, weight: int, reservation: int | None) -> Grant | Wait:
        pool, minute = self._pool, self._earliest(now) // MINUTE_MS
        limit, is_clock_known = pool.limit or BOOTSTRAP_LIMIT, pool.bounds.at is not None
        our_limit = self._our_limit(limit)
        our_most = math.floor(min(our_limit, limit * (1 - RESERVE)))
        if pool.limit and weight > our_most:
            raise never_fits_error(weight, self._share, our_most, limit)
        is_minute_certain = minute == self._latest(now) // MINUTE_MS
        next_minute_in = math.ceil(
            ((minute + 1) * MINUTE_MS - self._earliest(now)) * (1 + CLOCK_DRIFT)
        )
        count = self._open(minute)
        is_closed = now < pool.closed_until
        if reservation == minute + 1 and not is_closed:
            return Wait(next_minute_in, reservation)
        if reservation in (minute, minute + 1):
            reserved_in = self._count(reservation)
            reserved_in.reserved = max(0, reserved_in.reserved - weight)
        if is_closed:
            return Wait(pool.closed_until - now, None, is_closed=True)
        is_trial = pool.is_reopening or not is_clock_known
        if is_trial and now < pool.trial_until:
            return Wait(max(1, math.ceil(min(pool.rtt or 300, pool.trial_until - now))), None)

        reserved = (
            0 if reservation == minute or MINUTE_MS - next_minute_in > LATE_MS else count.reserved
        )
        room = limit * (1 - RESERVE) - self._used(count)
        free_without_others = math.floor(min(room, our_limit - count.spent))
        others_so_far, others_at_pace = _others_spent(count)
        is_pace_unusual = (
            others_at_pace > pool.others_per_minute * UNUSUAL_PACE + limit * OTHERS_MARGIN
        )
        probes_ahead = next_minute_in // PROBE_INTERVAL_MS if is_pace_unusual else 0
        for_others = (
            self._weight_for_others(others_so_far, others_at_pace, limit) + weight * probes_ahead
        )
        free = math.floor(min(room - for_others, our_limit - count.spent) - reserved)
        edge_room = limit * EDGE_SPARE + weight
        following = self._count(minute + 1)
        following_rest = our_limit - following.spent - following.reserved - count.in_flight
        others_since_header = (
            others_at_pace * (self._latest(now) - minute * MINUTE_MS - count.header_at) / MINUTE_MS
            + limit * OTHERS_MARGIN
        )
        is_kept_for_others = (
            free < weight <= free_without_others - reserved - others_since_header
            and next_minute_in > PROBE_INTERVAL_MS
        )
        is_probe = (
            is_kept_for_others and is_pace_unusual and now - pool.last_probe_ms >= PROBE_INTERVAL_MS
        )
        if is_minute_certain or not is_clock_known or min(free, following_rest) >= edge_room:
            if weight <= free or is_probe:
                count.spent += weight
                count.in_flight += weight
                pool.trial_until = now + TRIAL_TIMEOUT_MS if is_trial else pool.trial_until
                pool.last_probe_ms = now if is_probe else pool.last_probe_ms
                return Grant(
                    weight, minute, now, max(0, free - weight), next_minute_in, int(pool.rtt or 300)
                )
            if weight <= free_without_others and next_minute_in > PROBE_INTERVAL_MS:
                return Wait(PROBE_INTERVAL_MS, None)
        return self._reserve(weight, limit, minute, next_minute_in)

    def _our_limit(self, limit: int) -> float:
        return limit * round(self._share * MILLION) / MILLION

    def _reserve(self, weight: int, limit: int, minute: int, next_minute_in: int) -> Wait:
        following = self._count(minute + 1)
        room = min(self._our_limit(limit), limit * (1 - RESERVE) - self._pool.others_per_minute)
        if weight > room - following.spent - following.reserved:
            return Wait(next_minute_in, None)
        following.reserved += weight
        return Wait(next_minute_in, minute + 1)

    def _weight_for_others(self, so_far: int, at_pace: float, limit: int) -> float:
        expected = max(self._pool.others_per_minute, at_pace)
        return max(0.0, expected - so_far) + limit * OTHERS_MARGIN if expected > 0 else 0.0

    def _used(self, count: _Count) -> int:
        before = self._pool.counts.get(count.minute - 1)
        return max(
            count.spent + count.others,
            count.header + count.in_flight + (before.in_flight if before else 0),
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
        pool, was_clock_known = self._pool, self._pool.bounds.at is not None
        if date_ms is not None:
            self._narrow(now, date_ms - now, date_ms + 999 - grant.at_ms)
        charged = pool.counts.get(grant.minute)
        if charged:
            charged.in_flight = max(0, charged.in_flight - grant.weight)
        minute_now = self._latest(now) // MINUTE_MS
        if date_ms is not None and not was_clock_known:
            current = self._open(self._earliest(now) // MINUTE_MS)
            current.spent += charged.spent if charged and current is not charged else 0
            self._raise_header(current, used, now, grant)
        elif minute_now != grant.minute:
            if (
                minute_now == grant.minute + 1
                and not (following := self._count(minute_now)).is_open
            ):
                following.spent += grant.weight
            if charged and date_ms is not None and date_ms // MINUTE_MS == grant.minute:
                self._raise_header(charged, used, now, grant)
        elif charged:
            self._raise_header(charged, used, now, grant)
        if rtt_ms is not None:
            pool.rtt = rtt_ms if pool.rtt is None else (pool.rtt * 7 + rtt_ms) / 8
        if not was_clock_known or (pool.is_reopening and grant.at_ms >= pool.closed_until):
            pool.trial_until = 0
            pool.is_reopening = pool.is_reopening and not (was_clock_known and served)

    def _raise_header(self, count: _Count, used: int, now: int, grant: Grant) -> None:
        if used > count.header:
            count.header = used
            count.others = max(count.others, used - count.spent)
            count.header_at = min(
                MINUTE_MS,
                max(0, self._latest(now) - (now - grant.at_ms) // 2 - count.minute * MINUTE_MS),
            )

    def _narrow(self, now: int, low: int, high: int) -> None:
        bounds, drift = self._pool.bounds, self._drift(now)
        is_first = bounds.at is None
        if not is_first and max(low, bounds.low - drift) <= min(high, bounds.high + drift):
            low, high = max(low, bounds.low - drift), min(high, bounds.high + drift)
        narrowed_at = now if is_first or drift > 0 else bounds.at
        self._pool.bounds = _Bounds(low, high, narrowed_at)

    def _open(self, minute: int) -> _Count:
        count, before = self._count(minute), self._pool.counts.get(minute - 1)
        if not count.is_open:
            count.is_open = True
            count.spent += before.in_flight if before else 0
            others = _others_spent(before)[1] if before else 0
            self._pool.others_per_minute = max(others, (self._pool.others_per_minute + others) / 2)
        return count

    def _count(self, minute: int) -> _Count:
        counts = self._pool.counts
        if minute not in counts:
            counts[minute] = _Count(minute)
            for old in [kept for kept in counts if abs(kept - minute) > 2]:
                del counts[old]
        return counts[minute]

    def _drift(self, now: int) -> int:
        narrowed_at = self._pool.bounds.at
        return int((now - (now if narrowed_at is None else narrowed_at)) * CLOCK_DRIFT)

    def _earliest(self, now: int) -> int:
        return now + self._pool.bounds.low - self._drift(now) - CLOCK_SKEW_MS

    def _latest(self, now: int) -> int:
        return now + self._pool.bounds.high + self._drift(now) + CLOCK_SKEW_MS


def _others_spent(count: _Count) -> tuple[int, float]:
    """Return what others have surely spent in a minute so far, and what that makes by its end."""
    return count.others, count.others * MINUTE_MS / max(count.header_at, MIN_PACE_MS)

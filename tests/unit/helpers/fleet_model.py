"""Many workers, one budget and an exchange that counts, in simulated time. Nothing sleeps."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Budget, Grant
from klinefleet.workers.support.clock import ManualClock


@dataclass
class Books:
    """The exchange's own count: calendar minutes of its own clock, counted when a call arrives."""

    limit: int
    skew_ms: int
    used: Counter[int] = field(default_factory=Counter)
    refused: int = 0

    def arrive(self, now_ms: int, weight: int) -> tuple[int, bool]:
        minute = (now_ms + self.skew_ms) // MINUTE_MS
        self.used[minute] += weight
        over = self.used[minute] > self.limit
        self.refused += over
        return self.used[minute], not over


@dataclass
class FleetModel:
    """Workers that always have another call to make, for `minutes` of simulated time."""

    budget: Budget
    clock: ManualClock
    books: Books
    rng: random.Random
    workers: int = 20
    weight: int = 2
    rtt_ms: int = 280
    slow_rate: float = 0.0
    lost_rate: float = 0.0
    die_rate: float = 0.0
    others_per_minute: int = 0
    granted: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def run(self, minutes: float) -> None:
        self.begin()
        go_on([self], minutes)

    def begin(self) -> None:
        for _ in range(self.workers):
            self._after(self.rng.uniform(0, 50), lambda: self._ask(None))
        if self.others_per_minute:
            self._after(0, self._others_call)

    @property
    def next_ms(self) -> float:
        return self._events[0][0] if self._events else math.inf

    def step(self) -> None:
        """Let happen what happens next."""
        at_ms, _, event = heapq.heappop(self._events)
        self.clock.advance(at_ms - self.clock.now_ms())
        event()

    def _after(self, ms: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.clock.now_ms() + ms, next(self._order), event))

    def _others_call(self) -> None:
        self.books.used[(self.clock.now_ms() + self.books.skew_ms) // MINUTE_MS] += 1
        self._after(MINUTE_MS / self.others_per_minute, self._others_call)

    def _ask(self, reservation: int | None) -> None:
        answer = self.budget.take(self.weight, reservation)
        if not isinstance(answer, Grant):
            self._after(answer.ms + self.rng.uniform(0, 100), lambda: self._ask(answer.reservation))
            return
        self.granted += answer.weight
        slow = 20 if self.rng.random() < self.slow_rate else 1
        there, back = (self.rng.uniform(0.3, 0.7) * self.rtt_ms * slow for _ in range(2))
        self._after(there, lambda: self._arrive(answer, back))

    def _arrive(self, grant: Grant, back_ms: float) -> None:
        now_ms = self.clock.now_ms()
        used, served = self.books.arrive(now_ms, grant.weight)
        date_ms = (now_ms + self.books.skew_ms) // 1000 * 1000
        if self.rng.random() < self.die_rate:
            self._after(5_000, lambda: self._ask(None))
        elif self.rng.random() < self.lost_rate:
            self._after(20_000, lambda: self._done(grant, None, None, False, None))
        else:
            self._after(back_ms, lambda: self._done(grant, used, date_ms, served, self.rtt_ms))

    def _done(
        self, grant: Grant, used: int | None, date_ms: int | None, served: bool, rtt_ms: int | None
    ) -> None:
        self.budget.learn(grant, used=used, date_ms=date_ms, served=served, rtt_ms=rtt_ms)
        if used is not None and not served:
            self.budget.close_until()
        self._after(1, lambda: self._ask(None))


def go_on(models: Sequence[FleetModel], minutes: float) -> None:
    """Let fleets that have begun, all on one clock, work for so long."""
    end_ms = models[0].clock.now_ms() + minutes * MINUTE_MS
    while (following := min(models, key=lambda model: model.next_ms)).next_ms < end_ms:
        following.step()

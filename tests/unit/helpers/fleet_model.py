"""Many workers, one budget and an exchange that counts, in simulated time. Nothing sleeps."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from deploy.simulator.neighbours import Neighbour, nobody
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Budget, Grant
from klinefleet.workers.support.clock import ManualClock

#: Changes what an answer's headers say: (random numbers, used weight, Date in ms) to the last two.
Distortion = Callable[[random.Random, int, int], tuple[int | None, int | None]]


def true_answer(rng: random.Random, used: int, date_ms: int) -> tuple[int | None, int | None]:
    """Change nothing."""
    return used, date_ms


@dataclass
class Books:
    """The exchange's own count: calendar minutes of its own clock, counted when a call arrives."""

    limit: int
    skew_ms: int
    used: Counter[int] = field(default_factory=Counter)
    by_others: Counter[int] = field(default_factory=Counter)
    refused_in: Counter[int] = field(default_factory=Counter)
    others_refused_in: Counter[int] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """Calls of the fleet that were refused."""
        return self.refused_in.total()

    def minute(self, now_ms: float) -> int:
        return int(now_ms + self.skew_ms) // MINUTE_MS

    def arrive(self, now_ms: int, weight: int) -> tuple[int, bool]:
        minute = self.minute(now_ms)
        self.used[minute] += weight
        over = self.used[minute] > self.limit
        self.refused_in[minute] += over
        return self.used[minute], not over

    def arrive_from_others(self, now_ms: int, weight: int) -> None:
        minute = self.minute(now_ms)
        if self.used[minute] + weight > self.limit:
            self.others_refused_in[minute] += 1
        else:
            self.used[minute] += weight
            self.by_others[minute] += weight

    def share_used(self, minute: int) -> float:
        """Return our part of what others have left of a minute."""
        others = self.by_others[minute]
        return (self.used[minute] - others) / (self.limit - others)


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
    neighbour: Neighbour = nobody
    distort: Distortion = true_answer
    granted: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def run(self, minutes: float) -> None:
        self.begin()
        go_on([self], minutes)

    def begin(self) -> None:
        for _ in range(self.workers):
            self._after(self.rng.uniform(0, 50), lambda: self._ask(None))
        self._others_go_on(self.books.minute(self.clock.now_ms()), 0)

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

    def _others_go_on(self, minute: int, number: int) -> None:
        """Let the others make the calls of a minute, the `number`th that the fleet sees."""
        began_ms = minute * MINUTE_MS - self.books.skew_ms - self.clock.now_ms()
        for at_ms, weight in self.neighbour(number):
            if began_ms + at_ms >= 0:
                self._after(began_ms + at_ms, partial(self._others_call, weight))
        self._after(began_ms + MINUTE_MS, lambda: self._others_go_on(minute + 1, number + 1))

    def _others_call(self, weight: int) -> None:
        self.books.arrive_from_others(self.clock.now_ms(), weight)

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
        told_used, told_ms = self.distort(self.rng, used, date_ms)
        if self.rng.random() < self.die_rate:
            self._after(5_000, lambda: self._ask(None))
        elif self.rng.random() < self.lost_rate:
            self._after(20_000, lambda: self._done(grant, None, None, False, None))
        else:
            self._after(back_ms, lambda: self._done(grant, told_used, told_ms, served, self.rtt_ms))

    def _done(
        self, grant: Grant, used: int | None, date_ms: int | None, served: bool, rtt_ms: int | None
    ) -> None:
        self.budget.learn(grant, used=used, date_ms=date_ms, served=served, rtt_ms=rtt_ms)
        if rtt_ms is not None and not served:
            self.budget.close_until()
        self._after(1, lambda: self._ask(None))


@dataclass(frozen=True)
class Shape:
    """Workers of a fleet, weight of a call, and round trip in ms."""

    workers: int
    weight: int
    rtt_ms: int = 280

    def __str__(self) -> str:
        return f"{self.workers}x{self.weight}"


#: A minute's weight takes these 28 and 2 s.
SLOW, FAST = Shape(12, 2), Shape(50, 10)


def busy_fleet(
    budget: Budget,
    clock: ManualClock,
    shape: Shape = FAST,
    neighbour: Neighbour = nobody,
    distort: Distortion = true_answer,
    *,
    limit: int,
    seed: int = 1,
) -> FleetModel:
    """Return a fleet of this shape whose budget knows the limit, and the exchange with it."""
    budget.set_limit(limit)
    return FleetModel(
        budget,
        clock,
        Books(limit, 0),
        random.Random(seed),
        shape.workers,
        shape.weight,
        shape.rtt_ms,
        neighbour=neighbour,
        distort=distort,
    )


def go_on(models: Sequence[FleetModel], minutes: float) -> None:
    """Let fleets that have begun, all on one clock, work for so long."""
    end_ms = models[0].clock.now_ms() + minutes * MINUTE_MS
    while (following := min(models, key=lambda model: model.next_ms)).next_ms < end_ms:
        following.step()

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
from klinefleet.workers.limits.concurrency import RestSlots
from klinefleet.workers.support.clock import ManualClock

#: Changes what an answer's headers say: (random numbers, used weight, Date in ms) to the last two.
Distortion = Callable[[random.Random, int, int], tuple[int | None, int | None]]


def true_answer(rng: random.Random, used: int, date_ms: int) -> tuple[int | None, int | None]:
    """Change nothing."""
    return used, date_ms


#: Calls of the fleet that may be refused in a minute; the next one shuts its address out.
REFUSALS_BEFORE_BAN = 10
BAN_MS = 120_000


@dataclass
class Books:
    """The exchange's own count: calendar minutes of its own clock, counted when a call arrives.

    As the stand-in does, it shuts an address out from its eleventh refused call of a minute on.
    """

    limit: int
    skew_ms: int
    used: Counter[int] = field(default_factory=Counter)
    by_others: Counter[int] = field(default_factory=Counter)
    refused_in: Counter[int] = field(default_factory=Counter)
    others_refused_in: Counter[int] = field(default_factory=Counter)
    banned_until_ms: int = 0
    bans: int = 0

    @property
    def refused(self) -> int:
        """Calls of the fleet that were refused."""
        return self.refused_in.total()

    def minute(self, now_ms: float) -> int:
        return int(now_ms + self.skew_ms) // MINUTE_MS

    def is_banned(self, now_ms: float) -> bool:
        return now_ms < self.banned_until_ms

    def arrive(self, now_ms: int, weight: int) -> tuple[int, bool]:
        """Return the used weight after a call of the fleet, and whether it is served."""
        minute = self.minute(now_ms)
        is_banned = self.is_banned(now_ms)
        if not is_banned:
            self.used[minute] += weight
        if not is_banned and self.used[minute] <= self.limit:
            return self.used[minute], True
        self.refused_in[minute] += 1
        if not is_banned and self.refused_in[minute] > REFUSALS_BEFORE_BAN:
            self.banned_until_ms = now_ms + (BAN_MS << self.bans)
            self.bans += 1
        return self.used[minute], False

    def arrive_from_others(self, now_ms: int, weight: int) -> None:
        minute = self.minute(now_ms)
        if self.is_banned(now_ms) or self.used[minute] + weight > self.limit:
            self.others_refused_in[minute] += 1
        else:
            self.used[minute] += weight
            self.by_others[minute] += weight

    def share_used(self, minute: int) -> float:
        """Return our part of what others have left of a minute, without what was refused."""
        others = self.by_others[minute]
        return (min(self.used[minute], self.limit) - others) / (self.limit - others)


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
    slots: RestSlots | None = None
    """The workers' limit of calls in flight; None lets all of them ask for weight at once."""
    granted: int = 0
    _resting: int = 0
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
        self.books.used[minute] += 0
        began_ms = minute * MINUTE_MS - self.books.skew_ms - self.clock.now_ms()
        for at_ms, weight in self.neighbour(number):
            if began_ms + at_ms >= 0:
                self._after(began_ms + at_ms, partial(self._others_call, weight))
        self._after(began_ms + MINUTE_MS, lambda: self._others_go_on(minute + 1, number + 1))

    def _others_call(self, weight: int) -> None:
        self.books.arrive_from_others(self.clock.now_ms(), weight)

    def _rest(self) -> None:
        """Let a worker wait for a slot, and those go on for whom there is one."""
        self._resting += 1
        width = self.slots.width if self.slots else self.workers
        while self._resting and self.workers - self._resting < width:
            self._resting -= 1
            self._after(1, lambda: self._ask(None))

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
            self._after(5_000, self._rest)
        elif self.rng.random() < self.lost_rate:
            self._after(20_000, lambda: self._done(grant, None, None, False, None))
        else:
            self._after(back_ms, lambda: self._done(grant, told_used, told_ms, served, self.rtt_ms))

    def _done(
        self, grant: Grant, used: int | None, date_ms: int | None, served: bool, rtt_ms: int | None
    ) -> None:
        self.budget.learn(grant, used=used, date_ms=date_ms, served=served, rtt_ms=rtt_ms)
        if rtt_ms is not None and not served:
            self._close()
        if self.slots and served and rtt_ms is not None:
            self.slots.record_success(
                rtt_ms=rtt_ms,
                weight=grant.weight,
                left=grant.left,
                minute_left_ms=grant.minute_left_ms,
            )
        elif self.slots:
            self.slots.record_failure()
        self._rest()

    def _close(self) -> None:
        """Close the pool for as long as the exchange's answer says."""
        if self.books.is_banned(self.clock.now_ms()):
            self.budget.close_until(at_ms=self.books.banned_until_ms + self.books.skew_ms)
        else:
            self.budget.close_until()


@dataclass(frozen=True)
class Shape:
    """Workers of a fleet, weight of a call, round trip in ms, and whether the slots adapt."""

    workers: int
    weight: int
    rtt_ms: int = 280
    has_slots: bool = False

    def __str__(self) -> str:
        return f"{self.workers}x{self.weight}" + " slots" * self.has_slots


#: A minute's weight takes these 28 and 2 s.
SLOW, FAST = Shape(12, 2), Shape(50, 10)
#: A worker as it is, whose slots adapt.
ADAPTIVE = Shape(48, 2, has_slots=True)


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
        slots=_busy_slots(shape.workers) if shape.has_slots else None,
    )


def _busy_slots(width: int) -> RestSlots:
    """Return the slots of a process that has more to do than a minute's weight is enough for."""
    slots = RestSlots(width)
    slots.set_demand(math.inf, 1)
    return slots


def go_on(models: Sequence[FleetModel], minutes: float) -> None:
    """Let fleets that have begun, all on one clock, work for so long."""
    end_ms = models[0].clock.now_ms() + minutes * MINUTE_MS
    while (following := min(models, key=lambda model: model.next_ms)).next_ms < end_ms:
        following.step()

"""Simulated fleets whose answers' headers, or Redis's clock, cannot be trusted: no 429 of our own
making, and no more than a minute lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from deploy.simulator.neighbours import Neighbour, burst, even, nobody
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.support.clock import ManualClock
from tests.lua_budget import LuaBudget
from tests.unit.helpers.budgets import LIMIT, START_MS
from tests.unit.helpers.fleet_model import (
    FAST,
    SLOW,
    Books,
    Distortion,
    FleetModel,
    Shape,
    busy_fleet,
    go_on,
    true_answer,
)

FLEETS = [SLOW, FAST]


class SteppedClock(ManualClock):
    """The clock of a Redis whose machine's time is set; the world's goes on."""

    def __init__(self, world: ManualClock) -> None:
        self._world = world
        self.step_ms = 0

    def now_ms(self) -> int:
        return self._world.now_ms() + self.step_ms


def model(
    fleet: Shape, neighbour: Neighbour = nobody, distort: Distortion = true_answer
) -> tuple[FleetModel, SteppedClock]:
    world = ManualClock(START_MS + 13_500)
    redis_clock = SteppedClock(world)
    budget = LuaBudget(redis_clock)
    return busy_fleet(budget, world, fleet, neighbour, distort, limit=LIMIT), redis_clock


def lost_minutes(books: Books, least: float = 0.9) -> list[int]:
    """The full minutes in which less than this share of the weight was used."""
    minutes = sorted(books.used)[1:-1]
    return [minute for minute in minutes if books.share_used(minute) < least]


@pytest.mark.parametrize("step_ms", [-5_000, -1_000, -300, 300, 1_000, 5_000])
@pytest.mark.parametrize("at_s", [0.2, 2, 30, 54, 57, 59.8])
def test_a_step_of_redis_clock_costs_no_429_and_at_most_a_minute(step_ms: int, at_s: float) -> None:
    made, redis_clock = model(FAST)
    made.begin()
    go_on([made], (3 * 60 + at_s - 13.5) / 60)
    redis_clock.step_ms = step_ms
    go_on([made], 3.3)
    assert made.books.refused == 0
    assert len(lost_minutes(made.books)) <= 1


def now_and_then(change: Distortion, one_in: int) -> Distortion:
    """Return a distortion of one answer in so many."""

    def distort(rng: random.Random, used: int, date_ms: int) -> tuple[int | None, int | None]:
        return change(rng, used, date_ms) if rng.randrange(one_in) == 0 else (used, date_ms)

    return distort


HEADERS: dict[str, Callable[[random.Random, int, int], tuple[int | None, int | None]]] = {
    "used weight is missing": lambda rng, used, date_ms: (None, date_ms),
    "used weight is huge": lambda rng, used, date_ms: (999_999_999, date_ms),
    "used weight is a little too large": lambda rng, used, date_ms: (LIMIT + 1, date_ms),
    "used weight is nothing": lambda rng, used, date_ms: (0, date_ms),
    "the date is missing": lambda rng, used, date_ms: (used, None),
    "the date is of 1970": lambda rng, used, date_ms: (used, 0),
    "the date is of the last minute": lambda rng, used, date_ms: (used, date_ms - MINUTE_MS),
    "the date is of the next minute": lambda rng, used, date_ms: (used, date_ms + MINUTE_MS),
    "the date is of another year": lambda rng, used, date_ms: (used, date_ms + 10**11),
}


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
@pytest.mark.parametrize("neighbour", [nobody, even(600)], ids=["alone", "beside others"])
@pytest.mark.parametrize("what", HEADERS)
def test_one_answer_in_fifty_with_odd_headers_costs_no_429_and_no_minute(
    what: str, neighbour: Neighbour, fleet: Shape
) -> None:
    made, _ = model(fleet, neighbour, now_and_then(HEADERS[what], 50))
    made.run(6)
    learnt = sorted(made.books.used)[3:]
    assert sum(made.books.refused_in[minute] for minute in learnt) == 0
    assert [m for m in lost_minutes(made.books) if m in learnt] == []


@pytest.mark.parametrize("what", ["used weight is missing", "used weight is huge"])
@pytest.mark.parametrize("fleet", FLEETS, ids=str)
def test_headers_that_never_say_what_is_used_cost_nothing_where_nobody_else_spends(
    what: str, fleet: Shape
) -> None:
    made, _ = model(fleet, nobody, HEADERS[what])
    made.run(4)
    assert made.books.refused == 0
    assert lost_minutes(made.books) == []


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
def test_headers_that_stop_saying_what_is_used_leave_others_what_they_used_to_spend(
    fleet: Shape,
) -> None:
    made, _ = model(fleet, burst(600, 55))
    made.begin()
    go_on([made], 4)
    made.distort = HEADERS["used weight is missing"]
    go_on([made], 3)
    learnt = sorted(made.books.used)[3:-1]
    assert sum(made.books.refused_in[m] + made.books.others_refused_in[m] for m in learnt) == 0
    assert [m for m in lost_minutes(made.books) if m in learnt] == []


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
@pytest.mark.parametrize("used", [600, 1_500, LIMIT])
@pytest.mark.parametrize("at_s", [1, 20, 50])
def test_one_untrue_used_weight_costs_at_most_the_rest_of_its_minute(
    at_s: float, used: int, fleet: Shape
) -> None:
    made, _ = model(fleet)
    made.begin()
    go_on([made], (3 * 60 + at_s - 13.5) / 60)
    untrue = [used]
    made.distort = lambda rng, true, date_ms: (untrue.pop() if untrue else true, date_ms)
    go_on([made], 4)
    assert made.books.refused == 0
    assert len(lost_minutes(made.books)) <= 1

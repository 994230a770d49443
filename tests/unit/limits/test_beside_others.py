"""Simulated fleets beside other programs on their address: room for those, the rest for us."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.simulator.neighbours import (
    Neighbour,
    at_random,
    burst,
    during,
    even,
    nobody,
    together,
)
from klinefleet.workers.support.clock import ManualClock
from tests.lua_budget import LuaBudget
from tests.unit.helpers.budgets import LIMIT, START_MS
from tests.unit.helpers.fleet_model import ADAPTIVE, FAST, SLOW, Books, Shape, busy_fleet

FLEETS = [SLOW, FAST, ADAPTIVE]

#: Whole minutes after which the others must be known.
LEARNT = 3


def ran(
    neighbour: Neighbour, fleet: Shape, *, minutes: int, seed: int = 1, begin_s: float = 13.5
) -> Books:
    """The exchange's books after a fleet was busy beside a neighbour, the first minute cut."""
    clock = ManualClock(START_MS + int(begin_s * 1000))
    model = busy_fleet(LuaBudget(clock), clock, fleet, neighbour, limit=LIMIT, seed=seed)
    model.run(minutes)
    return model.books


def learnt_minutes(books: Books, after: int = LEARNT) -> list[int]:
    """The full minutes, without the first so many."""
    return sorted(books.used)[after:-1]


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
@pytest.mark.parametrize(
    ("neighbour", "least"),
    [
        (nobody, 0.98),
        (even(600), 0.97),
        *[(burst(600, second), 0.95) for second in (0.05, 3, 45, 55, 58)],
        (burst(1200, 30), 0.95),
        (burst(300, 0.3, 30), 0.95),
        (burst(300, 10, 55), 0.95),
        (together(even(300), burst(300, 40)), 0.95),
    ],
)
def test_others_who_do_the_same_each_minute_leave_us_nearly_all_the_rest_and_earn_us_no_429(
    neighbour: Neighbour, least: float, fleet: Shape
) -> None:
    books = ran(neighbour, fleet, minutes=6)
    for minute in learnt_minutes(books):
        assert books.share_used(minute) >= least
        assert (books.refused_in[minute], books.others_refused_in[minute]) == (0, 0)


@settings(max_examples=6, deadline=None)
@given(
    seconds=st.lists(st.floats(0, 58), min_size=1, max_size=3),
    weight=st.integers(5, 60).map(lambda calls: calls * 10),
    steady=st.sampled_from([0, 0, 200]),
    fleet=st.sampled_from(FLEETS),
)
def test_bursts_at_any_second_of_each_minute_leave_us_nearly_all_the_rest(
    seconds: list[float], weight: int, steady: int, fleet: Shape
) -> None:
    neighbour = together(burst(weight, *seconds), even(steady))
    books = ran(neighbour, fleet, minutes=7)
    for minute in learnt_minutes(books, LEARNT + 1):
        assert books.share_used(minute) >= 0.95
        assert books.refused_in[minute] == 0


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
@pytest.mark.parametrize("second", [0.3, 20, 45, 55])
def test_a_burst_every_third_minute_costs_us_a_tenth_at_most(second: float, fleet: Shape) -> None:
    books = ran(burst(1500, second, every=3), fleet, minutes=10)
    shares = [books.share_used(minute) for minute in learnt_minutes(books)]
    assert statistics.mean(shares) >= 0.90


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
@pytest.mark.parametrize("most", [600, 1200])
def test_others_at_random_cost_us_a_tenth_at_most(most: int, fleet: Shape) -> None:
    runs = [ran(at_random(most, seed), fleet, minutes=9, seed=seed) for seed in range(3)]
    shares = [books.share_used(minute) for books in runs for minute in learnt_minutes(books)]
    assert statistics.mean(shares) >= 0.90


@pytest.mark.parametrize("seed", range(8))
def test_others_at_random_never_earn_us_a_ban(seed: int) -> None:
    assert ran(at_random(1200, seed), ADAPTIVE, minutes=9, seed=seed).bans == 0


@pytest.mark.parametrize("begin_s", [20, 30, 39])
@pytest.mark.parametrize("second", [50, 55])
def test_a_burst_never_seen_before_meets_too_few_calls_in_flight_to_earn_us_a_ban(
    second: float, begin_s: float
) -> None:
    books = ran(burst(600, second), ADAPTIVE, minutes=3, begin_s=begin_s)
    assert books.bans == 0
    assert all(books.share_used(minute) >= 0.95 for minute in learnt_minutes(books, 2))


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
@pytest.mark.parametrize("others", [even(600), burst(600, 0.3), burst(600, 30), burst(600, 55)])
def test_a_neighbour_that_begins_is_known_after_two_minutes(
    others: Neighbour, fleet: Shape
) -> None:
    books = ran(during(others, 3, 99), fleet, minutes=8)
    for minute in sorted(books.used)[6:-1]:
        assert books.share_used(minute) >= 0.95
        assert books.refused_in[minute] == 0


@pytest.mark.parametrize("fleet", FLEETS, ids=str)
@pytest.mark.parametrize("others", [even(600), burst(600, 0.3), burst(600, 30), burst(600, 55)])
def test_a_neighbour_that_ends_is_forgotten_after_two_minutes(
    others: Neighbour, fleet: Shape
) -> None:
    books = ran(during(others, 0, 4), fleet, minutes=8)
    for minute in sorted(books.used)[6:-1]:
        assert books.share_used(minute) >= 0.95
        assert books.refused_in[minute] == 0


@pytest.mark.parametrize("weight", [600, 1500, 2300])
@pytest.mark.parametrize("second", [0.05, 0.3, 1])
def test_a_burst_never_seen_before_silences_us_for_no_more_than_a_few_seconds(
    weight: int, second: float
) -> None:
    clock = ManualClock(START_MS - 500)
    neighbour = during(burst(weight, second), 1, 2)
    model = busy_fleet(LuaBudget(clock), clock, Shape(20, 2), neighbour, limit=LIMIT)
    arrive, sent_ms = model.books.arrive, []

    def noted(now_ms: int, cost: int) -> tuple[int, bool]:
        sent_ms.append(now_ms)
        return arrive(now_ms, cost)

    model.books.arrive = noted  # type: ignore[method-assign]
    model.run(1)
    assert max(after - before for before, after in pairwise(sent_ms)) <= 4_000

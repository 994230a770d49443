"""Simulated fleets on one budget: never over the limit, and little weight left unspent."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.limits.budget import Budget
from klinefleet.workers.support.clock import ManualClock
from tests.lua_budget import LuaBudget
from tests.unit.helpers.budgets import LIMIT, START_MS
from tests.unit.helpers.fleet_model import Books, FleetModel

Maker = Callable[[ManualClock], Budget]


@pytest.fixture
def maker() -> Maker:
    return LuaBudget


@pytest.fixture
def weight() -> int:
    """What each call costs."""
    return 2


def model(maker: Maker, seed: int, **how: float) -> FleetModel:
    clock, rng = ManualClock(START_MS + seed * 977), random.Random(seed)
    budget = maker(clock)
    budget.set_limit(LIMIT)
    books = Books(LIMIT, int(how.pop("skew_ms", 0)))
    return FleetModel(budget, clock, books, rng, **how)  # type: ignore[arg-type]


def full_minutes(fleet: FleetModel) -> list[int]:
    """Weights of the minutes that began and ended while the fleet ran, without the first."""
    minutes = sorted(fleet.books.used)
    return [fleet.books.used[m] for m in minutes[2:-1]]


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    workers=st.sampled_from([1, 7, 50]),
    skew_ms=st.sampled_from([0, -90_500, 17_250, 3_600_000]),
    rtt_ms=st.sampled_from([20, 280, 900]),
    slow_rate=st.sampled_from([0.0, 0.02]),
    lost_rate=st.sampled_from([0.0, 0.02]),
    die_rate=st.sampled_from([0.0, 0.02]),
)
def test_the_exchanges_books_never_show_more_than_the_limit(
    maker: Maker, weight: int, seed: int, **how: float
) -> None:
    fleet = model(maker, seed, weight=weight, **how)
    fleet.run(minutes=3)
    assert fleet.books.refused == 0
    assert max(fleet.books.used.values()) <= LIMIT


@pytest.mark.parametrize("workers", [12, 50, 200])
@pytest.mark.parametrize("skew_ms", [0, -90_500, 3_600_250])
def test_full_minutes_spend_97_percent_of_the_limit_and_no_more(
    maker: Maker, weight: int, workers: int, skew_ms: int
) -> None:
    fleet = model(maker, 3, weight=weight, workers=workers, skew_ms=skew_ms)
    fleet.run(minutes=5)
    assert fleet.books.refused == 0
    assert min(full_minutes(fleet)) >= 0.97 * LIMIT

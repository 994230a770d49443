"""The simulated fleets again, on the Lua scripts in a real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from deploy.simulator.neighbours import Neighbour, burst, even
from klinefleet.workers.support.clock import ManualClock
from tests.unit.helpers.budgets import LIMIT, START_MS
from tests.unit.helpers.fleet_model import FAST, busy_fleet
from tests.unit.helpers.redis_budget import ManualRedisBudget
from tests.unit.limits.test_fleet_on_a_budget import (
    Maker,
    test_full_minutes_spend_97_percent_of_the_limit_and_no_more,
    test_the_exchanges_books_never_show_more_than_the_limit,
)

__all__ = [
    "test_full_minutes_spend_97_percent_of_the_limit_and_no_more",
    "test_the_exchanges_books_never_show_more_than_the_limit",
]


@pytest.fixture
def maker(redis: Redis) -> Maker:
    def make(clock):  # type: ignore[no-untyped-def]
        redis.flushdb()
        return ManualRedisBudget(clock, redis=redis)

    return make


@pytest.fixture
def weight() -> int:
    """What a larger page costs: as much weight is spent in fewer round trips to Redis."""
    return 5


@pytest.mark.parametrize("neighbour", [even(600), burst(600, 0.3), burst(300, 10, 55)])
def test_others_on_the_address_are_made_room_for(maker: Maker, neighbour: Neighbour) -> None:
    clock = ManualClock(START_MS + 13_500)
    fleet = busy_fleet(maker(clock), clock, FAST, neighbour, limit=LIMIT)
    fleet.run(minutes=6)
    books = fleet.books
    for minute in sorted(books.used)[3:-1]:
        assert books.share_used(minute) >= 0.95
        assert (books.refused_in[minute], books.others_refused_in[minute]) == (0, 0)

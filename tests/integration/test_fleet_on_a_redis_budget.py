"""The simulated fleets again, on the Lua scripts in a real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.unit.helpers.redis_budget import ManualRedisBudget
from tests.unit.limits.test_fleet_on_a_budget import (
    Maker,
    test_another_program_on_the_address_is_made_room_for,
    test_full_minutes_spend_97_percent_of_the_limit_and_no_more,
    test_the_exchanges_books_never_show_more_than_the_limit,
)

__all__ = [
    "test_another_program_on_the_address_is_made_room_for",
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

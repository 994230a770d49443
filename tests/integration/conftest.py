"""A stand-in exchange for tests of the REST client, with its budgets and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis import Redis

from klinefleet.workers.binance.calls.session import pooled_session
from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.domain.markets import RULES, Market
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.limits.weight_waiter import WeightWaiter
from tests.integration.rest_client import Maker
from tests.processes import await_young_minute
from tests.servers import Exchange


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("exchange"), "--symbols", "30") as exchange:
        yield exchange


@pytest.fixture
def exchange(running: Exchange) -> Iterator[Exchange]:
    """The stand-in exchange of this module, with new books and no faults."""
    for path in ("books", "calls"):
        running.ask("DELETE", path)
    yield running
    running.faults({})


def budget_of(redis: Redis, market: Market) -> RedisBudget:
    """Return the budget of a market's pool, which knows its limit."""
    budget = RedisBudget(redis, RULES[market].pool, "test")
    budget.set_limit(2400)
    return budget


@pytest.fixture
def budgets(redis: Redis) -> Callable[[Market], RedisBudget]:
    """Make a pool's budget, away from a minute's edge.

    There an answer may count for the minute before. The minute is that of the exchange's clock,
    which is the machine's, so that only waiting helps.
    """
    await_young_minute(left_s=15)
    return partial(budget_of, redis)


@pytest.fixture
def client(redis: Redis) -> Iterator[Maker]:
    """Make a client that waits a minute at most for weight.

    Tests that assert its cost take `budgets` too.
    """
    with pooled_session(4) as session:

        def make(url: str, market: Market = Market.USD_M, **how: Any) -> RestClient:
            how = {"session": session, "timeout_s": 30.0} | how
            return RestClient(
                market,
                url,
                budget=lambda _: budget_of(redis, market),
                weight_waiter=WeightWaiter(max_wait_s=60),
                **how,
            )

        yield make

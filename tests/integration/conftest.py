"""A stand-in exchange for all tests of the REST client, the budgets that it learns of, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from tests.harness import Exchange
from tests.integration.rest_client import Maker
from tests.processes import await_young_minute
from workers.binance.markets import RULES
from workers.binance.rest import RestClient, pooled_session
from workers.limits import Patience, RedisBudget
from workers.model import Market


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


@pytest.fixture
def budgets(redis: Redis) -> Callable[[Market], RedisBudget]:
    """Make a pool's budget, away from a minute's edge: there an answer may count for the minute before."""
    await_young_minute(left_s=15)

    def make(market: Market) -> RedisBudget:
        budget = RedisBudget(redis, RULES[market].pool, "test")
        budget.set_limit(2400)
        return budget

    return make


@pytest.fixture
def client(budgets: Callable[[Market], RedisBudget]) -> Iterator[Maker]:
    """Make a client that waits a minute at most for weight."""
    with pooled_session(4) as session:

        def make(url: str, market: Market = Market.USD_M, **how: Any) -> RestClient:
            how = {"session": session, "timeout_s": 30.0} | how
            return RestClient(market, url, budget=lambda _: budgets(market), patience=Patience(longest_s=60), **how)

        yield make

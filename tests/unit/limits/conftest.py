"""The clock of a test, and budgets by it: in this process, and in Redis (real Lua on fakeredis)."""

from __future__ import annotations

import pytest

from klinefleet.workers.support.clock import ManualClock
from tests.lua_budget import LuaBudget
from tests.unit.helpers.budgets import START_MS, Maker
from tests.unit.helpers.redis_budget import ManualRedisBudget


@pytest.fixture(params=[LuaBudget, ManualRedisBudget], ids=["lua", "redis"])
def maker(request: pytest.FixtureRequest) -> Maker:
    return request.param


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_MS)

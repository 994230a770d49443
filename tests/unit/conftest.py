"""Crews for the tests of the planner and its tasks: fleets in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.markets import Market
from tests.unit.helpers.crew import Crew, crew
from tests.unit.helpers.planning import BEGAN, Maker


@pytest.fixture
def crews(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Make in-process fleets on one Redis and one folder.

    `began` are the exchange's symbols, each with the time since when it trades, ms.
    """

    def make(
        began: dict[str, int | FleetError | None] | None = None, market: Market = Market.USD_M
    ) -> Crew:
        return crew(redis, tmp_path, began or {"BTCUSDT": BEGAN}, market=market).patch(monkeypatch)

    return make


@pytest.fixture
def one(crews: Maker) -> Crew:
    """A crew whose exchange has BTCUSDT."""
    return crews()

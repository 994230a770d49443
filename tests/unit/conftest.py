"""Fleets in one process, for tests of the planner and its tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.markets import Market
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet
from tests.unit.helpers.planning import BEGAN, Maker


@pytest.fixture
def make_fleet(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Make in-process fleets on one Redis and one folder.

    `began` are the exchange's symbols, each with the time since when it trades, ms.
    """

    def make(
        began: dict[str, int | FleetError | None] | None = None, market: Market = Market.USD_M
    ) -> InProcessFleet:
        return in_process_fleet(redis, tmp_path, began or {"BTCUSDT": BEGAN}, market=market).patch(
            monkeypatch
        )

    return make


@pytest.fixture
def one(make_fleet: Maker) -> InProcessFleet:
    """A fleet whose exchange has BTCUSDT."""
    return make_fleet()

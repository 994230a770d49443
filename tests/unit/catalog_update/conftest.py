"""What tests of the catalog share: an exchange and a fleet that asks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

import klinefleet.tasks.catalog
import klinefleet.tasks.catalog_update.archive_scan
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.domain.errors import (
    FleetError,
)
from klinefleet.workers.support.retry import CATALOG, RetryPolicy
from tests.unit.helpers.catalogs import (
    Exchange,
    Maker,
)
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet


@pytest.fixture
def maker(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setattr(
        klinefleet.tasks.catalog_update.archive_scan, "CATALOG", RetryPolicy(CATALOG.tries, 0.0)
    )

    def make(
        *listings: Listing, first: dict[str, int | FleetError | None] | None = None
    ) -> tuple[InProcessFleet, Exchange]:
        one, exchange = in_process_fleet(redis, tmp_path, {}), Exchange(*listings, first=first)
        one.services.__dict__["client"] = lambda _: exchange
        return one, exchange

    return make

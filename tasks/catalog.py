"""klines.catalog: rebuilds a market's catalog."""

from __future__ import annotations

import logging
from typing import Any

from celery.exceptions import Reject
from redis import RedisError

from klinefleet.tasks.catalog_update.build import update_catalog
from klinefleet.tasks.runs.enqueue import send
from klinefleet.workers.app import app
from klinefleet.workers.domain.errors import FleetError, OtherStore, TaskFailed
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.queues import PLAN
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)


@app.task(name="klines.catalog", bind=True, throws=(TaskFailed,))  # type: ignore[untyped-decorator]
def catalog(self: Any, market: str) -> None:
    """Rebuild a market's catalog; skip it while another worker does."""
    services: Services = self.app.services
    try:
        services.fleet_store.check()
        with services.leases.hold(f"catalog|{market}") as is_mine:
            if is_mine:
                update_catalog(services, Market(market))
    except (RedisError, OtherStore) as error:
        services.pause_before_requeue()
        raise Reject(error, requeue=True) from error
    except FleetError as error:
        logger.error(
            "catalog %s: %s; the catalog in the lake was not changed", market, error.reason
        )
        raise TaskFailed(error.reason) from error


def send_catalog(market: Market, sent_us: int) -> None:
    """Send a catalog task for a market. `sent_us`: Redis µs at which it is sent."""
    send("klines.catalog", [str(market)], PLAN, f"catalog of {market}", sent_us)

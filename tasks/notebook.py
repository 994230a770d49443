"""The entry point for notebooks: a reader that can have the fleet fetch what the lake lacks."""

from __future__ import annotations

from dataclasses import replace

from klinefleet.tasks.client.fetcher import FleetFetcher
from klinefleet.workers.coordination.private_redis import is_shared_reachable, shared_url
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings


def reader(store_url: str | None = None, redis_url: str | None = None) -> Reader:
    """Return a reader of a store.

    Called with `fetch=True`, its methods have the fleet at `redis_url` fetch what is missing; else
    no Redis is needed. The defaults are the settings (README), then the Redis that `klines worker`
    starts on this machine. A fleet of another store is refused.

        lake = reader()
        lake.read("um", "BTCUSDT", "1h", "2024-01-01", "2024-02-01", fetch=True)
    """
    settings = Settings.load()
    if not (redis_url or settings.redis_url):
        # SettingsError where it is not this user's. It need not run yet.
        is_shared_reachable()
    settings = replace(
        settings,
        store_url=store_url or settings.store_url,
        redis_url=redis_url or settings.redis_url or shared_url(),
    )
    return Reader(settings.store_url, fetcher=FleetFetcher(Services(settings)))

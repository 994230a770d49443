"""What a process works with, built from its settings on first use (and so after any fork)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from redis import Redis

from klinefleet.workers.binance.symbol_cache import SymbolCache
from klinefleet.workers.coordination.heartbeat import Heartbeat, egresses
from klinefleet.workers.coordination.leases import Leases
from klinefleet.workers.domain.markets import Market, Pool
from klinefleet.workers.domain.queues import rest_queue
from klinefleet.workers.limits.budget import PoolState
from klinefleet.workers.limits.concurrency import AdaptiveLimit, RestSlots
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.limits.weight_waiter import MAX_WAIT_S, WeightWaiter
from klinefleet.workers.support.once import once
from klinefleet.workers.support.settings import Settings
from klinefleet.workers.support.stop_signal import Stop
from klinefleet.workers.support.threads import Threads

if TYPE_CHECKING:
    # Imported where they are built: a command that only looks at Redis starts in a third of the
    # time.
    from requests import Session

    from klinefleet.workers.binance.archive import Archive
    from klinefleet.workers.binance.archive_index import ArchiveIndexCache
    from klinefleet.workers.binance.rest import RestClient
    from klinefleet.workers.lake.catalog import Catalogs
    from klinefleet.workers.lake.coverage import Coverage
    from klinefleet.workers.lake.partitions import Partitions
    from klinefleet.workers.lake.raw_zone import RawZone
    from klinefleet.workers.sources.listing_dates import ListingDates
    from klinefleet.workers.storage.objects import ObjectStore


#: A pool that the exchange has closed for longer sends its windows back to the queue, where workers
#: that go out by another address find them; a shorter wait costs less than the pages of a window
#: that are fetched again.
LONGEST_CLOSED_S = 15.0


class Services:
    """One process's clients. `queue` is the one it works for, if any; `pool` the one whose weight
    that spends.
    """

    def __init__(self, settings: Settings, *, queue: str = "", pool: Pool | None = None) -> None:
        self.settings = settings
        self.stop = Stop()
        self.queue = queue
        self.pool = pool
        self.is_pool_closed = False
        """Whether the exchange has closed the pool for so long that others had better do its work.
        """
        self.weight_waiter = WeightWaiter(
            self.stop, longest_closed_s=LONGEST_CLOSED_S if queue else MAX_WAIT_S
        )
        self.rest_slots = RestSlots(settings.slots)
        self.archive_limit = AdaptiveLimit(settings.slots)
        self._clients: dict[Market, RestClient] = {}
        self._budgets: dict[Pool, RedisBudget] = {}
        self._lock = threading.Lock()

    @once
    def redis(self) -> Redis:
        return Redis.from_url(self.settings.redis_url or "", health_check_interval=30)

    @once
    def leases(self) -> Leases:
        return Leases(self.redis)

    @once
    def heartbeat(self) -> Heartbeat:
        serves = f"{self.queue}@{self.settings.egress}" if self.pool else self.queue
        return Heartbeat(self.redis, self.leases, serves=serves)

    @once
    def store(self) -> ObjectStore:
        from klinefleet.workers.storage.open import open_store

        return open_store(self.settings.store_url)

    @once
    def page_threads(self) -> Threads:
        """The threads that calls are made in: as many as there may be calls in flight."""
        return Threads(self.settings.slots, thread_name_prefix="page")

    @once
    def raw_zone(self) -> RawZone:
        from klinefleet.workers.lake.raw_zone import RawZone

        return RawZone(self.store)

    @once
    def partitions(self) -> Partitions:
        from klinefleet.workers.lake.partitions import Partitions

        return Partitions(self.store)

    @once
    def coverage(self) -> Coverage:
        from klinefleet.workers.lake.coverage import Coverage
        from klinefleet.workers.lake.footer_cache import FooterCache, footer_cache_path

        return Coverage(self.store, FooterCache(self.settings.store_url, footer_cache_path()))

    @once
    def catalogs(self) -> Catalogs:
        from klinefleet.workers.lake.catalog import Catalogs

        return Catalogs(self.store)

    @once
    def symbol_cache(self) -> SymbolCache:
        return SymbolCache(self.redis, self.client, self.budget)

    @once
    def http_session(self) -> Session:
        from klinefleet.workers.binance.http import pooled_session

        return pooled_session(self.settings.slots, self.settings.source_address)

    @once
    def archive(self) -> Archive:
        from klinefleet.workers.binance.archive import Archive

        return Archive(
            self.settings.archive_url,
            self.settings.archive_list_url,
            session=self.http_session,
            timeout_s=self.settings.timeout_s,
        )

    @once
    def archive_indexes(self) -> ArchiveIndexCache:
        from klinefleet.workers.binance.archive_index import ArchiveIndexCache

        return ArchiveIndexCache(lambda: self.archive)

    @once
    def listing_dates(self) -> ListingDates:
        from klinefleet.workers.sources.listing_dates import ListingDates

        return ListingDates(self.symbol_cache, self.archive_indexes, self.catalogs.fresh)

    def budget(self, pool: Pool) -> RedisBudget:
        """Return the budget of a pool at this process's public address."""
        redis = self.redis
        with self._lock:
            if pool not in self._budgets:
                # Kept: making one hashes its scripts, which at every call would be a tenth of what
                # a call costs.
                share = self.settings.weight_share
                self._budgets[pool] = RedisBudget(redis, pool, self.settings.egress, share=share)
            return self._budgets[pool]

    def refresh_pool_closed(self, pool: Pool) -> None:
        """Note whether the exchange has closed the pool for long; then who waits for its next
        minute is woken.
        """
        self.is_pool_closed = self.budget(pool).state().closed_ms > LONGEST_CLOSED_S * 1000
        if self.is_pool_closed:
            self.stop.wake()

    def budgets(self, pool: Pool) -> dict[str, RedisBudget]:
        """Return the pool's budgets at all public addresses by which workers go out, or else at our
        own.
        """
        names = egresses(self.redis, rest_queue(pool)) or [self.settings.egress]
        return {name: RedisBudget(self.redis, pool, name) for name in names}

    def pool_states(self, pool: Pool) -> dict[str, PoolState]:
        """Return what is known of the pool at each of them."""
        return {name: budget.state() for name, budget in self.budgets(pool).items()}

    def client(self, market: Market) -> RestClient:
        """Return the client of one market."""
        from klinefleet.workers.binance.rest import RestClient

        session = self.http_session
        with self._lock:
            if market not in self._clients:
                self._clients[market] = RestClient(
                    market,
                    self.settings.base_url(market),
                    session=session,
                    budget=self.budget,
                    weight_waiter=self.weight_waiter,
                    timeout_s=self.settings.timeout_s,
                )
            return self._clients[market]

"""The clients of a process, each built from the settings on first use (and so after any fork)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from redis import Redis, RedisError

from klinefleet.workers.binance.symbol_cache import SymbolCache
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.coordination.heartbeat import Heartbeat, live_egresses, process_name
from klinefleet.workers.coordination.leases import Leases
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.coordination.redis_faults import require_writable
from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.domain.markets import Market, Pool
from klinefleet.workers.domain.queues import rest_queue
from klinefleet.workers.domain.stores import StoreRef, absolute_url
from klinefleet.workers.limits.budget import PoolState
from klinefleet.workers.limits.concurrency import AdaptiveLimit, RestSlots
from klinefleet.workers.limits.memory_slots import MemorySlots
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.limits.weight_waiter import MAX_WAIT_S, WeightWaiter
from klinefleet.workers.support.masking import mask_secrets
from klinefleet.workers.support.once import once
from klinefleet.workers.support.settings import Settings
from klinefleet.workers.support.stop_signal import StopSignal
from klinefleet.workers.support.threads import Threads

if TYPE_CHECKING:
    # Imported where they are built: a command that only reads Redis starts three times as fast.
    from requests import Session

    from klinefleet.workers.binance.archive import Archive
    from klinefleet.workers.binance.archive_index import ArchiveIndexCache
    from klinefleet.workers.binance.rest import RestClient
    from klinefleet.workers.lake.catalog import Catalogs
    from klinefleet.workers.lake.coverage import Coverage
    from klinefleet.workers.lake.identity import Identity, StoreIdentity
    from klinefleet.workers.lake.partitions import Partitions
    from klinefleet.workers.lake.raw_zone import RawZone
    from klinefleet.workers.sources.source_dates import SourceDates
    from klinefleet.workers.sources.trading_spans import TradingSpans
    from klinefleet.workers.storage.objects import ObjectStore


#: Longest wait of a worker for a pool that the exchange has closed. After that its windows go back
#: to the queue, for workers at another address. A shorter wait costs less than fetching the pages
#: of a window again.
MAX_CLOSED_WAIT_S = 15.0
#: Longest wait, in whole seconds, for a Redis and for a store that refuse writes. Work whose store
#: refused it five times has failed.
MAX_REDIS_WAIT_S, MAX_STORE_WAIT_S = 600, 10


class Services:
    """One process's clients.

    queue: the queue that the process serves, empty for a command; pool: whose weight its tasks
    spend, None for a lane that spends none; own_store: the store that a worker serves, as it was
    found at its start.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        queue: str = "",
        pool: Pool | None = None,
        own_store: StoreRef | None = None,
    ) -> None:
        self.settings = settings
        self._store_at_start = own_store or self.store_ref(None)
        self.stop = StopSignal()
        self.queue = queue
        self.pool = pool
        self.is_pool_closed = False
        """True while the exchange closes the pool for over MAX_CLOSED_WAIT_S."""
        self.weight_waiter = WeightWaiter(
            self.stop, max_closed_wait_s=MAX_CLOSED_WAIT_S if queue else MAX_WAIT_S
        )
        self.rest_slots = RestSlots(settings.slots)
        self.memory_slots = MemorySlots(self.stop)
        self.archive_limit = AdaptiveLimit(settings.slots)
        self._clients: dict[Market, RestClient] = {}
        self._budgets: dict[Pool, RedisBudget] = {}
        self._lock = threading.Lock()

    @once
    def redis(self) -> Redis:
        return Redis.from_url(self.settings.redis_url or "", health_check_interval=30)

    @once
    def leases(self) -> Leases:
        return Leases(self.redis, holder=process_name(self._serves))

    @once
    def heartbeat(self) -> Heartbeat:
        fleet_store = self.fleet_store if self.queue else None
        return Heartbeat(self.redis, self.leases, serves=self._serves, fleet_store=fleet_store)

    @property
    def _serves(self) -> str:
        return f"{self.queue}@{self.settings.egress}" if self.pool else self.queue

    @once
    def fleet_store(self) -> FleetStore:
        """The store of this worker, and whether the fleet serves the same."""
        return FleetStore(self.redis, self._store_at_start)

    @once
    def store(self) -> ObjectStore:
        from klinefleet.workers.storage.open import open_store

        return open_store(self.settings.store_url)

    @once
    def identity(self) -> StoreIdentity:
        """The identity of the store."""
        from klinefleet.workers.lake.identity import StoreIdentity

        return StoreIdentity(self.store)

    def own_store(self) -> StoreRef:
        """Return the store, with an id if it was new; LakeFormat if it is of another format."""
        return self.store_ref(self.identity.require_current())

    def store_ref(self, identity: Identity | None) -> StoreRef:
        """Return the store by its identity and its URL, in which secrets are masked."""
        url = mask_secrets(absolute_url(self.settings.store_url))
        return StoreRef(identity.id if identity else "", url)

    @once
    def page_threads(self) -> Threads:
        """The threads that make calls: as many as there may be calls in flight."""
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
        from klinefleet.workers.lake.footers.cache import FooterCache, footer_cache_path

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
        from klinefleet.workers.binance.calls.session import pooled_session

        return pooled_session(self.settings.slots, self.settings.source_address)

    @once
    def archive(self) -> Archive:
        from klinefleet.workers.binance.archive import Archive

        return Archive(
            self.settings.archive_url,
            self.settings.archive_list_url,
            session=self.http_session,
            timeout_s=self.settings.timeout_s,
            downloads=self.archive_limit,
        )

    @once
    def archive_indexes(self) -> ArchiveIndexCache:
        from klinefleet.workers.binance.archive_index import ArchiveIndexCache

        return ArchiveIndexCache(lambda: self.archive)

    @once
    def source_dates(self) -> SourceDates:
        from klinefleet.workers.sources.source_dates import SourceDates

        return SourceDates(self.redis, self.client, self.archive_indexes)

    @once
    def trading_spans(self) -> TradingSpans:
        from klinefleet.workers.sources.trading_spans import TradingSpans

        return TradingSpans(
            self.symbol_cache, self.source_dates, self.catalogs.fresh, lambda: now_ms(self.redis)
        )

    def budget(self, pool: Pool) -> RedisBudget:
        """Return the budget of a pool at this process's public address."""
        redis = self.redis
        with self._lock:
            if pool not in self._budgets:
                # Kept: a new one hashes its scripts, which takes a tenth of the time of a call.
                share = self.settings.weight_share
                self._budgets[pool] = RedisBudget(redis, pool, self.settings.egress, share=share)
            return self._budgets[pool]

    def refresh_pool_closed(self, pool: Pool) -> None:
        """Refresh `is_pool_closed`; if it is true, wake threads that wait for weight.

        They then fail fast instead of waiting for a minute that will not come.
        """
        self.is_pool_closed = self.budget(pool).state().closed_ms > MAX_CLOSED_WAIT_S * 1000
        if self.is_pool_closed:
            self.stop.wake()

    def pause_before_requeue(self) -> None:
        """Wait before work goes back to its queue: a second, or while Redis or the store refuses.

        A lane whose slots wait takes no more work, which it could not hand back or keep either.
        """
        for waited_s in range(MAX_REDIS_WAIT_S):
            if self.stop.wait(1.0):
                return
            try:
                require_writable(self.redis)
                self.store.require_writable()
                return
            except RedisError:
                continue
            except StoreFault:
                if waited_s >= MAX_STORE_WAIT_S:
                    return

    def budgets(self, pool: Pool) -> dict[str, RedisBudget]:
        """Return the pool's budgets by egress: those of all live workers, or else our own."""
        names = live_egresses(self.redis, rest_queue(pool)) or [self.settings.egress]
        return {name: RedisBudget(self.redis, pool, name) for name in names}

    def pool_states(self, pool: Pool) -> dict[str, PoolState]:
        """Return the pool's state by egress."""
        return {name: budget.state() for name, budget in self.budgets(pool).items()}

    def client(self, market: Market) -> RestClient:
        """Return the REST client of a market."""
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
                    slots=self.rest_slots,
                    timeout_s=self.settings.timeout_s,
                )
            return self._clients[market]

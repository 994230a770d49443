"""What a process works with, built from its settings on first use (and so after any fork)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from redis import Redis

from workers.autoscale import Slots
from workers.binance.listings import Listings
from workers.binance.markets import RULES
from workers.heart import Heart
from workers.limits import Patience, RedisBudget
from workers.model import Market
from workers.settings import Settings

if TYPE_CHECKING:
    # Imported where they are built: a command that only looks at Redis starts in a third of the time.
    from requests import Session

    from workers.binance.archive import Archive
    from workers.binance.rest import RestClient
    from workers.lake.coverage import Coverage
    from workers.lake.files import Files
    from workers.lake.parquet import Partitions
    from workers.lake.raw import RawZone

#: Longest wait for weight inside one task. A longer ban sends its windows back to the queue.
LONGEST_WAIT_S = 300.0


class Toolbox:
    """One process's clients. `serves` names the queue it works for, if any."""

    def __init__(self, settings: Settings, *, serves: str = "") -> None:
        self.settings = settings
        self.stop = threading.Event()
        self.patience = Patience(self.stop, longest_s=LONGEST_WAIT_S)
        self.slots = Slots(settings.slots)
        self._serves = serves
        self._clients: dict[Market, RestClient] = {}
        self._lock = threading.Lock()

    @cached_property
    def redis(self) -> Redis:
        return Redis.from_url(self.settings.redis_url or "", health_check_interval=30)

    @cached_property
    def heart(self) -> Heart:
        return Heart(self.redis, serves=self._serves)

    @cached_property
    def files(self) -> Files:
        from workers.lake.coverage import Coverage
    from workers.lake.files import open_files

        return open_files(self.settings.store_url)

    @cached_property
    def pages(self) -> ThreadPoolExecutor:
        """The threads that calls are made in: as many as there may be calls in flight."""
        return ThreadPoolExecutor(self.settings.slots, thread_name_prefix="page")

    @cached_property
    def raw(self) -> RawZone:
        from workers.lake.raw import RawZone

        return RawZone(self.files)

    @cached_property
    def partitions(self) -> Partitions:
        from workers.lake.parquet import Partitions

        return Partitions(self.files)

    @cached_property
    def coverage(self) -> Coverage:
        from workers.lake.coverage import Coverage, Memory, memory_path

        return Coverage(self.files, Memory(self.settings.store_url, memory_path()))

    @cached_property
    def listings(self) -> Listings:
        return Listings(self.redis, self.client, self.budget)

    @cached_property
    def session(self) -> Session:
        from workers.binance.rest import pooled_session

        return pooled_session(self.settings.slots, self.settings.source_address)

    @cached_property
    def archive(self) -> Archive:
        from workers.binance.archive import Archive

        return Archive(
            self.settings.archive_url,
            self.settings.archive_list_url,
            session=self.session,
            timeout_s=self.settings.timeout_s,
        )

    def budget(self, market: Market) -> RedisBudget:
        """Return the budget that calls to this market draw from, at this process's public address."""
        share = self.settings.weight_share
        return RedisBudget(self.redis, RULES[market].pool, self.settings.egress, share=share)

    def client(self, market: Market) -> RestClient:
        """Return the client of one market."""
        from workers.binance.rest import RestClient

        with self._lock:
            if market not in self._clients:
                self._clients[market] = RestClient(
                    market,
                    self.settings.base_url(market),
                    session=self.session,
                    budget=self.budget(market),
                    patience=self.patience,
                    timeout_s=self.settings.timeout_s,
                )
            return self._clients[market]

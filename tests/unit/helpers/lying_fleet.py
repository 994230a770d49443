"""A fleet whose workers die, come late and repeat themselves, on an exchange that lies."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from klinefleet.tasks.ingest.compaction import compact_partition
from klinefleet.tasks.ingest.fetch_window import fetch_window
from klinefleet.tasks.requests import request as requests
from klinefleet.tasks.runs import policy
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.binance.archive_index import ArchiveIndexCache
from klinefleet.workers.binance.symbol_cache import SymbolCache
from klinefleet.workers.domain import paging
from klinefleet.workers.domain.errors import LeaseLost
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.sources import windows
from klinefleet.workers.storage.objects import ObjectStore
from tests.unit.helpers.in_process_fleet import in_process_fleet
from tests.unit.helpers.lying_exchange import LyingArchive, LyingExchange
from tests.unit.helpers.planning import LONG_S

#: Steps in which everything has to come to its end.
MOST_STEPS = 3_000


class DiedError(BaseException):
    """A worker's process ends, whatever it was doing."""


class PausedError(Exception):
    """A planner's turn is over."""


class LyingFleet:
    """Plans, fetches and compacts in one process, in an order that `rng` chooses."""

    def __init__(
        self,
        redis: Redis,
        folder: Path,
        exchange: LyingExchange,
        rng: random.Random,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.exchange = exchange
        self.archive = LyingArchive(exchange)
        self._rng = rng
        self.death_rate = 0.0
        self.one = in_process_fleet(redis, folder, {}).patch(monkeypatch)
        self.runs = Runs(redis)
        self._late: list[tuple[str, bytes]] = []
        services = self.one.services
        fakes = {
            "client": lambda _: exchange,
            "symbol_cache": SymbolCache(redis, lambda _: exchange, services.budget),  # type: ignore[arg-type,return-value]
            "archive": self.archive,
            "page_threads": _InTurn(),
            "stop": _NeverStops(),
        }
        services.__dict__.update(fakes)
        services.symbol_cache.refresh(Market.USD_M)
        self.forget_listings()
        _watch(services.store, self._before, self._after)
        # Small windows and pages: a month of days has answers enough to lie in.
        monkeypatch.setattr(paging, "_rows_of_page", lambda series: 8)
        monkeypatch.setattr(windows, "PAGES_PER_WINDOW", 2)
        monkeypatch.setattr(policy, "_ARCHIVE_LISTING_S", 0.0)
        monkeypatch.setattr(requests, "SMALL_CALLS", rng.choice([0, 1000]))
        monkeypatch.setattr(Runs, "wait_for_change", _pause)
        self.one.limits = type(self.one.limits)(lost_work_interval_s=0.0)

    def forget_listings(self) -> None:
        """List the archive anew."""
        cache = ArchiveIndexCache(lambda: self.archive, sleep=lambda _: None)  # type: ignore[arg-type,return-value]
        self.one.services.__dict__["archive_indexes"] = cache

    def play(self, asked: Iterable[requests.Request]) -> list[str]:
        """Begin runs and return their names once all have ended and no message is left."""
        names = [self.one.begin(request) for request in asked]
        for _ in range(MOST_STEPS):
            if not self._step(names):
                return names
        raise AssertionError(f"no end after {MOST_STEPS} steps")

    def _step(self, names: list[str]) -> bool:
        """Do one thing; return False if nothing is left to do."""
        one, choices = self.one, list[Callable[[], None]]()
        running = [name for name in names if self.runs.state(name) is State.RUNNING]
        choices += [lambda name=name: self._lead(name) for name in running]  # type: ignore[misc]
        if not (one.fetches or one.compactions):
            choices += [lambda name=name: self._resend(name) for name in running]  # type: ignore[misc]
        if one.fetches:
            choices += [lambda: self._do(one.fetches, fetch_window)] * 3
        if one.compactions:
            choices += [lambda: self._do(one.compactions, compact_partition)] * 3
        if self._late and running and self.death_rate:
            choices.append(self._deliver_late)
        if not choices:
            return False
        with suppress(DiedError):
            self._rng.choice(choices)()
        return True

    def _lead(self, name: str) -> None:
        """Let a new planner lead the run for a turn."""
        with suppress(PausedError):
            self.one.planner(name).lead(LONG_S)

    def _resend(self, name: str) -> None:
        """Have work sent again that no message is left of."""
        with suppress(LeaseLost):
            planner = self.one.planner(name)
            for _ in range(2):
                planner.resend_lost_work()

    def _do(
        self,
        messages: list[tuple[str, Any]],
        work: Callable[[Any, str, Any], str],
    ) -> None:
        """Do what a message asks for; one whose worker dies is delivered again, some are twice."""
        run, subject = messages.pop(self._rng.randrange(len(messages)))
        if self.death_rate and self._rng.random() < 0.1:
            messages.append((run, subject))
        try:
            work(self.one.services, run, subject)
        except DiedError:
            messages.append((run, subject))

    def _deliver_late(self) -> None:
        """Store a raw object again that was stored before, as by a lane that was given up."""
        key, body = self._rng.choice(self._late)
        self.one.services.store.put(key, body)

    def _before(self, operation: str, key: str) -> None:
        if self._rng.random() < self.death_rate:
            raise DiedError

    def _after(self, operation: str, key: str, body: bytes) -> None:
        if operation == "put" and key.startswith("raw/"):
            self._late.append((key, body))
        if self._rng.random() < self.death_rate:
            raise DiedError


class _InTurn:
    """Threads that do one thing after the other."""

    def map_all(self, work: Callable[[Any], Any], subjects: Iterable[Any]) -> list[Any]:
        return [work(subject) for subject in subjects]


class _NeverStops:
    """A worker's stop signal that never comes, and for which nobody waits."""

    def wait(self, seconds: float) -> bool:
        return False

    def is_set(self) -> bool:
        return False


def _pause(runs: Runs, run: str, seconds: float) -> None:
    raise PausedError


def _watch(
    store: ObjectStore,
    before: Callable[[str, str], None],
    after: Callable[[str, str, bytes], None],
) -> None:
    """Call `before` and `after` around all that changes a store."""

    def watched(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(subject: Any, *args: Any, **named: Any) -> Any:
            before(name, str(subject))
            result = change(subject, *args, **named)
            after(name, str(subject), args[0] if name == "put" else b"")
            return result

        return call

    for name in ("put", "publish", "delete"):
        setattr(store, name, watched(name, getattr(store, name)))

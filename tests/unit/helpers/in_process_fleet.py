"""A fleet in one process: a real Redis, a folder, messages in a list, a fake exchange."""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.ingest.compaction import compact_partition
from klinefleet.tasks.ingest.fetch_window import fetch_window
from klinefleet.tasks.planning.planner import start_planner
from klinefleet.tasks.planning.run_context import DEFAULT_LIMITS, PlannerLimits
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.binance.archive import Downloaded
from klinefleet.workers.binance.archive_index import ArchiveIndexCache
from klinefleet.workers.binance.archive_listing import ListedKey, Published
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.binance.exchange_info import ExchangeInfo, Listing
from klinefleet.workers.binance.symbol_cache import SymbolCache
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain.errors import FleetError, NotPublished, Refused
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.paging import page_count, pages
from klinefleet.workers.domain.redis_keys import plan_lease
from klinefleet.workers.domain.series import Partition, Series, Source, Window
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings
from tests.answers import ASKED_MS
from tests.unit.helpers.klines import body


class FakeClient:
    """Tells the symbols and when they began; an entry that is an error is raised."""

    def __init__(self, began: dict[str, int | FleetError | None], *, tells_dates: bool) -> None:
        self.began = began
        self.asked: list[str] = []
        self.newest_ms: dict[str, int] = {}
        self.told_ms: int | FleetError = 1_700_000_000_000
        self._tells_dates = tells_dates

    def exchange_info(self) -> ExchangeInfo:
        return ExchangeInfo(2400, tuple(self._listing(name) for name in self.began))

    def _listing(self, name: str) -> Listing:
        base = name.removesuffix("USDT")
        return Listing(name, "TRADING", self._date(name), None, base, "USDT", name, "PERPETUAL")

    def time_ms(self) -> int:
        self.asked.append("time")
        if isinstance(self.told_ms, FleetError):
            raise self.told_ms
        return self.told_ms

    def first_open_ms(self, series: Series, known_ms: int | None = None) -> int | None:
        self.asked.append(series.symbol)
        began = self.began[series.symbol]
        if isinstance(began, FleetError):
            raise began
        return None if began is None else series.interval.ceil(began)

    def newest_open_ms(self, series: Series) -> int | None:
        self.asked.append(f"newest {series.symbol}")
        if series.symbol not in self.began:
            raise Refused("400 Invalid symbol.", code=-1121)
        return self.newest_ms.get(series.symbol)

    def _date(self, name: str) -> int | None:
        began = self.began[name]
        return (began or 1) if self._tells_dates and isinstance(began, int) else None


class FakeArchive:
    """Files in memory, by key."""

    def __init__(self) -> None:
        self.files: dict[ArchiveFile, bytes] = {}
        self.etags: dict[ArchiveFile, str] = {}
        self.fault: FleetError | None = None
        self.asked: list[str] = []

    def publish(
        self, series: Series, period: str, csv: bytes = b"", etag: str = "1"
    ) -> ArchiveFile:
        source = Source.DAILY if len(period) > len("2024-01") else Source.MONTHLY
        file = ArchiveFile(series, source, period)
        self.files[file], self.etags[file] = zipped(file, csv), etag
        return file

    def published(self, series: Series, source: Source, month: str = "") -> dict[str, Published]:
        self._note(f"list {series} {source} {month}")
        found = [f for f in sorted(self.files) if (f.series, f.source) == (series, source)]
        return {
            f.period: Published(f, self.etags[f], 0, len(self.files[f]))
            for f in found
            if f.period.startswith(month)
        }

    def children(self, prefix: str) -> list[str]:
        self._note(f"children {prefix}")
        below = [
            file.key.removeprefix(prefix) for file in self.files if file.key.startswith(prefix)
        ]
        return sorted({rest.partition("/")[0] for rest in below if "/" in rest})

    def keys(self, prefix: str, *, marker: str = "", limit: int | None = None) -> list[ListedKey]:
        self._note(f"keys {prefix}")
        found = sorted(
            file.key for file in self.files if file.key.startswith(prefix) and file.key > marker
        )
        return [ListedKey(key, "1", 0, 1) for key in found[:limit]]

    def download(self, file: ArchiveFile) -> Downloaded:
        self._note(f"get {file.stem}")
        if file not in self.files:
            raise NotPublished(f"{file.key}: the archive has no such file")
        body = self.files[file]
        return Downloaded(body, self.etags[file], 0, hashlib.sha256(body).hexdigest(), ASKED_MS, 1)

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.fault:
            raise self.fault


def zipped(file: ArchiveFile, csv: bytes) -> bytes:
    """The file's zip, with one CSV inside."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{file.stem}.csv"), csv)
    return buffer.getvalue()


class RunPlanner:
    """The latest planner of a run, of which a test can call one step alone."""

    def __init__(self, services: Services, run: str, limits: PlannerLimits) -> None:
        self.fence = next(_FENCES)
        lease = Lease(plan_lease(run), self.fence, math.inf)
        self._planner = start_planner(services, run, lease, limits=limits)

    def lead(self, seconds: float) -> bool:
        return self._planner is not None and self._planner.lead(seconds)

    def issue(self) -> None:
        """Issue what there is room for, without leading."""
        assert self._planner
        self._planner._dispatch(self._planner._plan_partitions())

    def resend_lost_work(self) -> None:
        assert self._planner
        self._planner._recovery.resend_lost_work()


_FENCES = itertools.count(1)


@dataclass
class InProcessFleet:
    """Messages that were sent, and the work on them when a test calls for it."""

    services: Services
    runs: Runs
    client: FakeClient
    archive: FakeArchive
    fetches: list[tuple[str, Window]] = field(default_factory=list)
    compactions: list[tuple[str, Partition]] = field(default_factory=list)
    planners: list[str] = field(default_factory=list)
    issued: list[Window] = field(default_factory=list)
    most_in_flight: int = 0
    limits: PlannerLimits = DEFAULT_LIMITS
    """Of its planners."""

    def begin(self, request: Request) -> str:
        return self.runs.create(request)

    def planner(self, run: str) -> RunPlanner:
        return RunPlanner(self.services, run, self.limits)

    def fetch_one(self) -> None:
        """Do the oldest fetch that was sent, as a worker would."""
        run, window = self.fetches.pop(0)
        if self.runs.partitions.is_pending(run, window) and window.source.is_archive:
            fetch_window(self.services, run, window)
        elif self.runs.partitions.is_pending(run, window):
            series = window.partition.series
            calls = list(pages(series, window.span))
            step_ms = series.interval.step_ms
            answers = [
                body(range(series.interval.ceil(p.span.start_ms), p.span.end_ms, step_ms), step_ms)
                for p in calls
            ]
            self.services.raw_zone.store(window.partition, window.span, answers, asked_ms=ASKED_MS)
            told = {"windows_done": 1, "calls_done": page_count(series, window.span)}
            if self.runs.partitions.finish_window(run, window, told).is_last:
                self.send_compact(run, window.partition)

    def compact_one(self) -> None:
        run, partition = self.compactions.pop(0)
        compact_partition(self.services, run, partition)

    def work(self) -> None:
        """Do all that was sent, and what that leads to."""
        while self.fetches or self.compactions:
            self.fetch_one() if self.fetches else self.compact_one()

    def send_fetch(
        self, run: str, windows: Iterable[Window], sent_us: int, *, first: bool = False
    ) -> None:
        several = list(windows)
        self.fetches += [(run, window) for window in several]
        self.issued += several
        self.most_in_flight = max(self.most_in_flight, self.runs.partitions.count_in_flight(run)[0])

    def send_compact(
        self, run: str, partition: Partition, sent_us: int = 0, *, first: bool = False
    ) -> None:
        self.compactions.append((run, partition))

    def send_plan(self, run: str, sent_us: int, *, first: bool = False) -> None:
        self.planners.append(run)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> InProcessFleet:
        """Have the tasks send their messages here."""
        monkeypatch.setattr(enqueue, "send_fetch", self.send_fetch)
        monkeypatch.setattr(enqueue, "send_compact", self.send_compact)
        monkeypatch.setattr(enqueue, "send_plan", self.send_plan)
        return self


def in_process_fleet(
    redis: Redis,
    folder: Path,
    began: dict[str, int | FleetError | None],
    *,
    market: Market = Market.USD_M,
    keep_raw: bool = False,
) -> InProcessFleet:
    """Make a fleet whose exchange has these symbols, each with its first open time, ms."""
    url = f"unix://{redis.connection_pool.connection_kwargs['path']}"
    services = Services(Settings(redis_url=url, store_url=str(folder / "store"), keep_raw=keep_raw))
    services.__dict__["redis"] = redis
    services.__dict__["coverage"] = Coverage(services.store, FooterCache("", None))
    client = FakeClient(began, tells_dates=market is not Market.SPOT)
    services.__dict__["client"] = lambda _: client
    services.__dict__["symbol_cache"] = SymbolCache(redis, lambda _: client, services.budget)  # type: ignore[arg-type,return-value]
    if began:
        services.symbol_cache.refresh(market)
    archive = FakeArchive()
    services.__dict__["archive"] = archive
    services.__dict__["archive_indexes"] = ArchiveIndexCache(lambda: archive, sleep=lambda _: None)  # type: ignore[arg-type,return-value]
    return InProcessFleet(services, Runs(redis), client, archive)


def series_of(
    symbol: str = "BTCUSDT", interval: Interval = Interval.M1, market: Market = Market.USD_M
) -> Series:
    return Series(market, KLINES, interval, symbol)

"""Estimates what a request would fetch, from which sources, at what cost; fetches nothing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings, published_files
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.policy import policy_for_request
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.paging import pages
from klinefleet.workers.domain.series import Series, Window, missing
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import SMALL_CALLS, Assignment, assign_sources, files_of
from klinefleet.workers.sources.policy import FILE_S, Mode, Policy
from klinefleet.workers.sources.windows import windows
from klinefleet.workers.support.machine import available_cpus

logger = logging.getLogger(__name__)

#: Series whose archive files are listed at once.
_LISTING_THREADS = 16
#: Seconds between two progress messages.
_PROGRESS_INTERVAL_S = 3.0
#: Bytes of a kline in REST's JSON, compressed in transit.
_REST_BYTES = 40
#: Seconds of one core for a row: unzip or parse, check, write as Parquet, read back.
_ROW_S = 2e-6
#: Missing files that the text names; the rest are counted.
_NAMED = 10


@dataclass
class Estimate:
    """The cost of a request, at most: an unknown listing date can only make it less."""

    symbols: int
    limit: int
    """Weight a minute that the fleet may spend, at all its addresses together."""
    counts: Counter[str] = field(default_factory=Counter)
    missing_files: dict[str, str] = field(default_factory=dict)
    """Archive files that should exist and do not: key → why, and what replaces it."""
    why: str = ""

    @property
    def minutes(self) -> float:
        """Minutes to the end, for one worker on a machine like this.

        REST, archive and compaction run at the same time, so the slowest of them counts.
        """
        compaction_s = self.counts["klines"] * _ROW_S / available_cpus()
        return max(
            self.counts["weight"] / self.limit,
            self.counts["files"] * FILE_S / 60,
            compaction_s / 60,
        )

    def facts(self) -> dict[str, Any]:
        """Return the estimate as plain values, for --json."""
        counters = (
            "klines",
            "windows",
            "requests",
            "weight",
            "monthly_files",
            "daily_files",
            "bytes",
            "absent_klines",
        )
        return {
            "symbols": self.symbols,
            **{name: self.counts[name] for name in counters},
            "minutes": round(self.minutes, 2),
            "why": self.why,
            "missed_files": self.missing_files,
        }

    def text(self) -> str:
        """Return the estimate as text for people."""
        f = self.facts()
        duration, megabytes = _duration(self.minutes), f["bytes"] / 1e6
        lines = [
            f"would fetch at most {f['klines']:,} rows of {self.symbols:,} symbols "
            f"in {duration}, {megabytes:,.1f} MB",
            f"  archive   {f['monthly_files']:,} monthly and {f['daily_files']:,} daily files, "
            "no weight",
            f"  REST      {f['requests']:,} requests, weight {f['weight']:,} "
            f"({self.limit:,} a minute)",
            f"  because   {self.why}",
        ]
        if f["absent_klines"]:
            lines.append(f"  {f['absent_klines']:,} rows have no source and would stay missing")
        lines += [f"  {file} is {text}" for file, text in list(self.missing_files.items())[:_NAMED]]
        if len(self.missing_files) > _NAMED:
            lines.append(f"  and {len(self.missing_files) - _NAMED:,} more missing files")
        return "\n".join(lines)


@dataclass
class _SeriesEstimate:
    """The cost of one series."""

    counts: Counter[str] = field(default_factory=Counter)
    missing_files: dict[str, str] = field(default_factory=dict)
    archive_fault: FleetError | None = None
    """Why the archive could not be listed, if it could not."""


def estimate(
    services: Services, request: Request, say: Callable[[str], None] = logger.info
) -> Estimate:
    """Return what is missing of the request and what fetching it would cost.

    Lists the store and the archive. `say` is called with a progress message every few seconds.
    """
    result = Estimate(len(request.symbols), _weight_per_minute(services, request))
    archive_fault: FleetError | None = None
    holdings, clock_ms = Holdings(services, request), now_ms(services.redis)
    said_s = time.monotonic()
    with ThreadPoolExecutor(_LISTING_THREADS, thread_name_prefix="estimate") as threads:
        # Holdings are loaded one after the other, the archive is listed in parallel.
        loaded = (holdings.load(series) for series in request.series())
        parts = threads.map(
            lambda held: _estimate_series(services, request, held, clock_ms), loaded
        )
        for count, part in enumerate(parts, 1):
            result.counts += part.counts
            result.missing_files |= part.missing_files
            archive_fault = archive_fault or part.archive_fault
            if time.monotonic() - said_s > _PROGRESS_INTERVAL_S:
                said_s = time.monotonic()
                say(f"estimated {count:,} of {len(request.symbols):,} symbols")
    policy = policy_for_request(services, request, next(request.series()))
    result.why = _why(request, result, policy, archive_fault)
    return result


def _weight_per_minute(services: Services, request: Request) -> int:
    addresses = len(services.pool_states(request.pool))
    limit = services.symbol_cache.weight_limit(request.pool) or 1
    return max(1, int(services.settings.weight_share * addresses * limit))


def _estimate_series(
    services: Services, request: Request, held: SeriesHoldings, clock_ms: int
) -> _SeriesEstimate:
    series, result = held.series, _SeriesEstimate()
    lacking = missing(series, held.in_lake_or_raw, request.span)
    policy = policy_for_request(services, request, series, lacking)
    traded = request.span
    if lacking:
        try:
            traded = services.trading_spans.within(
                series, request.span, request.source, may_ask_rest=False
            ).span
        except FleetError as error:
            result.archive_fault = error
    for partition in series.partitions(traded):
        target = partition.span.clip(traded)
        parts = missing(series, held.in_lake_or_raw, target)
        found = Assignment(list(windows(partition, parts)))
        if parts and result.archive_fault is None:
            try:
                index = services.archive_indexes.get(series)
                found = assign_sources(partition, parts, index, policy, now_ms=clock_ms)
            except FleetError as error:
                result.archive_fault = error
        result.missing_files |= found.missing_files
        result.counts += _cost(services, series, found)
    return result


def _cost(services: Services, series: Series, found: Assignment) -> Counter[str]:
    opens = series.interval.opens
    counts = Counter(
        absent_klines=sum(opens(span.start_ms, span.end_ms) for span in found.unavailable)
    )
    for window in found.windows:
        klines = opens(window.span.start_ms, window.span.end_ms)
        counts += Counter(windows=1, klines=klines)
        if window.source.is_archive:
            counts += _file_cost(services, window)
        else:
            calls = list(pages(series, window.span))
            weight = sum(page.weight for page in calls)
            counts += Counter(requests=len(calls), weight=weight, bytes=klines * _REST_BYTES)
    return counts


def _file_cost(services: Services, window: Window) -> Counter[str]:
    index, counts = services.archive_indexes.get(window.partition.series), Counter[str]()
    for file, _ in files_of(window):
        size = published_files(index, file)[file.period].size
        counts += Counter({"files": 1, f"{file.source}_files": 1, "bytes": size})
    return counts


def _why(
    request: Request, result: Estimate, policy: Policy, archive_fault: FleetError | None
) -> str:
    if not result.counts["windows"] and not result.counts["absent_klines"]:
        return "nothing is missing"
    if request.source is not Mode.AUTO:
        return f"--source {request.source} was given"
    if archive_fault:
        return f"the archive could not be listed ({archive_fault.reason}), so REST is used for all"
    if request.is_small and policy.has_rest:
        return f"at most {SMALL_CALLS} calls are needed, which REST answers in a round trip or two"
    files, calls = result.counts["files"], result.counts["requests"]
    if files and calls:
        return (
            "files cost no weight and are faster than the calls they replace; "
            "REST has what they lack"
        )
    if files:
        return "files cost no weight and are faster than the calls they replace"
    return "files would not be faster than the calls they replace"


def _duration(minutes: float) -> str:
    return f"{minutes:,.1f} minutes" if minutes >= 1 else f"{max(1, round(minutes * 60))} seconds"

"""What a request would cost, and who would be asked for what, told before anything is spent on it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.policy import policy_for
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.paging import pages
from klinefleet.workers.domain.series import Series, Source, Window, missing
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import SMALL_CALLS, Assignment, assign_sources, files_of
from klinefleet.workers.sources.policy import FILE_S, Mode, Policy
from klinefleet.workers.sources.windows import windows
from klinefleet.workers.support.cpus import available_cpus

logger = logging.getLogger(__name__)

#: Series whose files are asked for at once, and how often it is said how many are done, seconds.
_LISTED_AT_ONCE, _SAY_S = 16, 3.0
#: What a kline costs as the exchange spells it in JSON, compressed on the way; bytes.
_REST_BYTES = 40
#: What a row costs one core: unzipped or parsed, checked, written as Parquet and read back;
#: seconds.
_ROW_S = 2e-6
#: Files that should be there and are not, named one by one; the rest are counted.
_NAMED = 10


@dataclass
class Estimate:
    """Calls, weight, files and minutes, at most: what is not known of listing dates can only make
    it less.
    """

    symbols: int
    limit: int
    counts: Counter[str] = field(default_factory=Counter)
    missed: dict[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def minutes(self) -> float:
        """The lanes and the compaction run side by side: the slowest counts, at a worker on a
        machine like this.
        """
        compaction_s = self.counts["klines"] * _ROW_S / available_cpus()
        return max(
            self.counts["weight"] / self.limit,
            self.counts["files"] * FILE_S / 60,
            compaction_s / 60,
        )

    def facts(self) -> dict[str, Any]:
        """Return it as plain values, for --json."""
        named = (
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
            **{name: self.counts[name] for name in named},
            "minutes": round(self.minutes, 2),
            "why": self.why,
            "missed_files": self.missed,
        }

    def text(self) -> str:
        """Return it for people."""
        f = self.facts()
        lines = [
            f"would fetch at most {f['klines']:,} rows of {self.symbols:,} symbols in "
            f"{_time(self.minutes)}, "
            f"{f['bytes'] / 1e6:,.1f} MB",
            f"  archive   {f['monthly_files']:,} monthly and {f['daily_files']:,} daily files, no "
            "weight",
            f"  REST      {f['requests']:,} requests, weight {f['weight']:,} ({self.limit:,} a "
            "minute)",
            f"  because   {self.why}",
        ]
        if f["absent_klines"]:
            lines.append(
                f"  nobody to ask for {f['absent_klines']:,} rows: they would stay missing"
            )
        lines += [f"  {file} is {text}" for file, text in list(self.missed.items())[:_NAMED]]
        if len(self.missed) > _NAMED:
            lines.append(f"  and {len(self.missed) - _NAMED:,} more files that are not there")
        return "\n".join(lines)


def _time(minutes: float) -> str:
    return f"{minutes:,.1f} minutes" if minutes >= 1 else f"{max(1, round(minutes * 60))} seconds"


def estimate(
    services: Services, request: Request, say: Callable[[str], None] = logger.info
) -> Estimate:
    """Return what is missing of the request and what fetching it costs; the store and the archive's
    list are asked.
    """
    addresses = len(services.pool_states(request.pool))
    limit = int(
        services.settings.weight_share
        * addresses
        * (services.symbol_cache.weight_limit(request.pool) or 1)
    )
    told, faults = Estimate(len(request.symbols), max(1, limit)), list[FleetError]()
    holdings, clock_ms, said = Holdings(services, request), now_ms(services.redis), time.monotonic()
    with ThreadPoolExecutor(_LISTED_AT_ONCE, thread_name_prefix="estimate") as asking:
        # What is held is looked up in order, for all at once; the archive's lists are asked for
        # side by side.
        looked = (holdings.of(series) for series in request.series())
        parts = asking.map(lambda held: _of_series(services, request, held, clock_ms), looked)
        for count, (counts, missed, fault) in enumerate(parts, 1):
            told.counts += counts
            told.missed |= missed
            faults += [fault] if fault else []
            if time.monotonic() - said > _SAY_S:
                said = time.monotonic()
                say(f"reckoned {count:,} of {len(request.symbols):,} symbols")
    told.why = _why(
        request,
        told,
        policy_for(services, request, next(request.series())),
        next(iter(faults), None),
    )
    return told


def _of_series(
    services: Services, request: Request, held: SeriesHoldings, clock_ms: int
) -> tuple[Counter[str], dict[str, str], FleetError | None]:
    """Return what one series costs, the files that are missed, and why the archive did not tell,
    where it did not.
    """
    series, counts, missed, fault = held.series, Counter[str](), dict[str, str](), None
    lacking = missing(series, held.spans, request.span)
    policy, life = policy_for(services, request, series, lacking), Span(0, request.end_ms)
    if lacking and services.listing_dates.known_without_request(series):
        life = services.listing_dates.trading_span(series)
    for block in series.blocks(request.span.clip(life)):
        parts = missing(series, held.spans, block.span.clip(request.span).clip(life))
        found = Assignment(list(windows(block, parts)))
        if parts and fault is None:
            try:
                found = assign_sources(
                    block, parts, services.archive_indexes.get(series), policy, now_ms=clock_ms
                )
            except FleetError as error:
                fault = error
        missed |= found.missing_files
        counts += _cost(services, series, found)
    return counts, missed, fault


def _cost(services: Services, series: Series, found: Assignment) -> Counter[str]:
    opens = series.interval.opens
    counts = Counter(
        absent_klines=sum(opens(span.start_ms, span.end_ms) for span in found.unavailable)
    )
    for window in found.windows:
        klines = opens(window.span.start_ms, window.span.end_ms)
        counts += Counter(windows=1, klines=klines)
        if window.source.is_archive:
            counts += _files(services, window)
        else:
            calls = list(pages(series, window.span))
            weight = sum(page.weight for page in calls)
            counts += Counter(requests=len(calls), weight=weight, bytes=klines * _REST_BYTES)
    return counts


def _files(services: Services, window: Window) -> Counter[str]:
    shelf, counts = services.archive_indexes.get(window.block.series), Counter[str]()
    for file, _ in files_of(window):
        listed = shelf.monthly() if file.source is Source.MONTHLY else shelf.daily(file.period[:7])
        counts += Counter(
            {"files": 1, f"{file.source}_files": 1, "bytes": listed[file.period].size}
        )
    return counts


def _why(request: Request, told: Estimate, policy: Policy, archive_fault: FleetError | None) -> str:
    if not told.counts["windows"] and not told.counts["absent_klines"]:
        return "nothing is missing"
    if request.source is not Mode.AUTO:
        return f"--source {request.source} was asked for"
    if archive_fault:
        return (
            f"the archive does not tell what it has ({archive_fault.reason}), so REST is asked "
            "for all"
        )
    if request.is_small and policy.is_listed:
        return (
            f"all of it is at most {SMALL_CALLS} calls, which REST answers in a round trip or two"
        )
    files, calls = told.counts["files"], told.counts["requests"]
    if files and calls:
        return (
            "files cost no weight and are done sooner than the calls they save; REST has what "
            "they lack"
        )
    if files:
        return "files cost no weight and are done sooner than the calls they save"
    return "files would not be done sooner than the calls they save"

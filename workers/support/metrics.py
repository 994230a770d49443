"""All metrics: their names, labels and help texts, and the counting itself.

Counters are counted where the event happens, with `add` and `observe`. Gauges describe the whole
fleet and are read from Redis at each scrape. A process counts only after `count_in_folder`. In
commands, and in workers without metrics, `add` looks up an empty table and imports nothing.

No label holds a symbol, a window or a run, so the number of series does not grow with the work.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klinefleet.workers.domain import errors
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.queues import FETCH_QUEUES

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


#: Bucket limits from a quick answer (0.1 to 0.3 s is usual) to a call's timeout. There are few,
#: since each bucket is a series per market.
SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 20.0)

_MARKETS = tuple(map(str, Market))
_DONE_OR_FAILED = ("done", "failed")
_STATUSES = (
    *("200", "400", "403", "404", "418", "429", "451", "500", "503"),
    *("unreachable", "overtaken"),
)
_ERRORS = (
    errors.Unreachable,
    errors.ServerFault,
    errors.BadAnswer,
    errors.Firewalled,
    errors.TooManyRequests,
    errors.Banned,
    errors.Refused,
    errors.Restricted,
    errors.ChecksumMissing,
    errors.ChecksumMismatch,
)
_REASONS = tuple(error.__name__ for error in _ERRORS)

#: prometheus_client's own metrics by name; empty in a process that does not count.
_meters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is exposed; its name ends with its unit."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counter(Metric):
    """Counts events.

    preset: label values exported as 0 at start, so that rate() counts the first event.
    """

    preset: tuple[Sequence[str], ...] = ()

    def add(self, amount: float = 1, **labels: str) -> None:
        """Add `amount`."""
        if _meters:
            _meter(self, labels).inc(amount)


@dataclass(frozen=True, slots=True)
class Histogram(Counter):
    """Counts durations by their length."""

    def observe(self, seconds: float, **labels: str) -> None:
        """Count a duration."""
        if _meters:
            _meter(self, labels).observe(seconds)


@dataclass(frozen=True, slots=True)
class Gauge(Metric):
    """Is read from Redis at a scrape; every worker exports the same value."""


REQUESTS = Counter(
    "klines_requests_total",
    "Calls to the exchange's REST API by result: the HTTP status, unreachable, or "
    "overtaken by another try.",
    ("market", "status"),
    (_MARKETS, _STATUSES),
)
REQUEST_SECONDS = Histogram(
    "klines_request_seconds",
    "Seconds from sending a call to the last byte of its answer, errors included.",
    ("market",),
    (_MARKETS,),
)
WEIGHT_WAIT_SECONDS = Counter(
    "klines_weight_wait_seconds_total",
    "Seconds that calls waited for weight; the rate is the number of waiting calls.",
    ("pool", "egress"),
)
ROWS_FETCHED = Counter(
    "klines_rows_fetched_total",
    "Rows received: from REST when fetched, from archive files when unpacked.",
    ("market", "source"),
    (_MARKETS, ("rest", "monthly", "daily")),
)
ROWS_COMPACTED = Counter(
    "klines_rows_compacted_total",
    "Rows added to the lake and verified.",
    ("market",),
    (_MARKETS,),
)
ARCHIVE_REQUESTS = Counter(
    "klines_archive_requests_total",
    "Calls to the archive for files, checksums and listings by result: the HTTP status, "
    "unreachable, or overtaken by another try.",
    ("status",),
    (_STATUSES,),
)
ARCHIVE_FILES = Counter(
    "klines_archive_files_total",
    "Downloads of archive files by outcome: good, or the name of the error.",
    ("source", "outcome"),
    (("monthly", "daily"), ("good", "NotPublished", *_REASONS)),
)
STORE_READ_BYTES = Counter("klines_store_read_bytes_total", "Bytes of objects read from the store.")
STORE_WRITTEN_BYTES = Counter(
    "klines_store_written_bytes_total", "Bytes of objects written to the store."
)
RETRIES = Counter(
    "klines_retries_total",
    "Failed tries by source and name of the error; most are tried again.",
    ("source", "reason"),
    (("rest", "archive"), _REASONS),
)
WINDOWS = Counter(
    "klines_windows_total",
    "Windows fetched (done), or given up for good (failed).",
    ("queue", "outcome"),
    (FETCH_QUEUES, _DONE_OR_FAILED),
)
PARTITIONS = Counter(
    "klines_partitions_total",
    "Partitions compacted (done), or given up for good (failed).",
    ("outcome",),
    (_DONE_OR_FAILED,),
)

REDIS_UP = Gauge(
    "klines_redis_up",
    "1 while Redis answers this worker; at 0 all gauges read from Redis are absent.",
)
STORE_INFO = Gauge(
    "klines_store_info",
    "1 for the store that this worker serves, by its id and URL; the fleet has one id.",
    ("id", "url"),
)
WEIGHT_USED = Gauge(
    "klines_weight_used",
    "Weight used in the exchange's running minute, by this fleet and others.",
    ("pool", "egress"),
)
WEIGHT_LIMIT = Gauge(
    "klines_weight_limit", "Weight that the exchange allows in a minute.", ("pool", "egress")
)
POOL_CLOSED_SECONDS = Gauge(
    "klines_pool_closed_seconds",
    "Seconds until a pool reopens after a 429 or 418; 0 while open.",
    ("pool", "egress"),
)
CLOCK_OFFSET_SECONDS = Gauge(
    "klines_exchange_clock_offset_seconds",
    "Seconds by which the exchange's clock is ahead of Redis's.",
    ("pool", "egress"),
)
SHARED_EGRESS_PAIRS = Gauge(
    "klines_shared_egress_pairs",
    "Pairs of egress names that seem to be one public address.",
    ("pool",),
)
QUEUE_LENGTH = Gauge(
    "klines_queue_length",
    "Tasks waiting in the queue, without those prefetched by workers.",
    ("queue",),
)
WORKERS = Gauge("klines_workers", "Live processes that serve a queue.", ("queue",))
RUNS_ACTIVE = Gauge("klines_runs_active", "Runs that have not ended.")
WINDOWS_IN_FLIGHT = Gauge(
    "klines_windows_in_flight", "Windows of active runs that are queued or being fetched."
)
FAILURES = Gauge(
    "klines_failures", "Windows, partitions and symbols of active runs that failed for good."
)
PARTITIONS_WAITING = Gauge(
    "klines_partitions_waiting",
    "Partitions of active runs that are being fetched or wait for compaction.",
    ("status",),
)
OLDEST_WINDOW_SECONDS = Gauge(
    "klines_oldest_window_seconds",
    "Seconds since the oldest partition with windows still to fetch was started.",
)
OLDEST_COMPACTION_SECONDS = Gauge(
    "klines_oldest_compaction_seconds",
    "Seconds since the oldest partition that waits for compaction was fetched.",
)

ALL = tuple(metric for metric in list(globals().values()) if isinstance(metric, Metric))


def count_in_folder(folder: Path, lane: str) -> None:
    """Start counting in this process, in files of its lane below `folder`.

    A restarted lane continues in the same files: their number does not grow, and no counter is
    reset.
    """
    from klinefleet.workers.patches.prometheus_lane import keep_values_by_lane

    keep_values_by_lane(folder, lane)
    from prometheus_client import CollectorRegistry

    count_in_registry(CollectorRegistry())


def count_in_registry(registry: CollectorRegistry) -> None:
    """Start counting in this process, in a registry."""
    import prometheus_client

    for metric in ALL:
        if not isinstance(metric, Counter):
            continue
        options: dict[str, Any] = {"registry": registry}
        kind: Any = prometheus_client.Counter
        if isinstance(metric, Histogram):
            kind = prometheus_client.Histogram
            options["buckets"] = SECONDS
        meter = kind(metric.name, metric.help, metric.labels, **options)
        for label_values in itertools.product(*metric.preset) if metric.preset else ():
            meter.labels(*label_values)
        _meters[metric.name] = meter


@contextmanager
def count_outcome(counter: Counter, **labels: str) -> Iterator[None]:
    """Count how the block ends: as `good`, or under the name of the FleetError it raises."""
    try:
        yield
    except errors.FleetError as error:
        counter.add(1, outcome=type(error).__name__, **labels)
        raise
    counter.add(1, outcome="good", **labels)


def _meter(metric: Metric, labels: dict[str, str]) -> Any:
    meter = _meters[metric.name]
    return meter.labels(**labels) if labels else meter

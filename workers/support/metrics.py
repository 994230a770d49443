"""Every metric of the product: its name, its labels and what it tells, and the counting itself.

Counters are counted where the fact is known, by `add` and `observe`; gauges are what Redis knows of
the whole fleet, read when somebody looks. A process counts only once it was told where (`record`).
Commands, and workers whose metrics are off, pay for one look at an empty table, import nothing and
leave nothing behind.

No label holds a symbol, a window or a run: the number of series does not grow with the work.
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


#: Between a quick answer (0.1 to 0.3 s is usual) and a call's whole timeout; few, since each is a
#: series per market.
SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 20.0)

_MARKETS = tuple(map(str, Market))
_DONE_OR_FAILED = ("done", "failed")
_STATUSES = ("200", "400", "403", "404", "418", "429", "451", "500", "503", "unreachable")
_FAULTS = (
    errors.Unreachable, errors.ServerFault, errors.BadAnswer, errors.Firewalled, errors.TooManyRequests, errors.Banned,
    errors.Refused, errors.Restricted, errors.ChecksumMissing, errors.ChecksumMismatch,
)  # fmt: skip
_REASONS = tuple(fault.__name__ for fault in _FAULTS)

#: The library's own counters, by name; empty in a process that does not count.
_meters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is exposed: the name says its unit."""

    name: str
    told: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counter(Metric):
    """Counts what happens.

    `shown` are the labels' values of which 0 is told before anything has happened: the rate of a
    series that begins with the first thing that happens would miss it.
    """

    shown: tuple[Sequence[str], ...] = ()

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count so much more."""
        if _meters:
            _meter(self, labels).inc(amount)


@dataclass(frozen=True, slots=True)
class Histogram(Counter):
    """Counts durations by how long they were."""

    def observe(self, seconds: float, **labels: str) -> None:
        """Count one that took so long."""
        if _meters:
            _meter(self, labels).observe(seconds)


@dataclass(frozen=True, slots=True)
class Gauge(Metric):
    """Is read from Redis at a scrape, and told alike by every worker."""


REQUESTS = Counter(
    "klines_requests_total",
    "Calls to the exchange's REST API by what came: the HTTP status, or unreachable.",
    ("market", "status"),
    (_MARKETS, _STATUSES),
)
REQUEST_SECONDS = Histogram(
    "klines_request_seconds",
    "Seconds from sending a call to the last byte of its answer, whatever it was.",
    ("market",),
    (_MARKETS,),
)
WEIGHT_WAIT_SECONDS = Counter(
    "klines_weight_wait_seconds_total",
    "Seconds that calls spent waiting for weight; its rate is how many wait at once.",
    ("pool", "egress"),
)
ROWS_FETCHED = Counter(
    "klines_rows_fetched_total",
    "Rows that came: of REST when they were fetched, of files when they were unpacked.",
    ("market", "source"),
    (_MARKETS, ("rest", "monthly", "daily")),
)
ROWS_COMPACTED = Counter(
    "klines_rows_compacted_total",
    "Rows that the lake has gained and proved.",
    ("market",),
    (_MARKETS,),
)
ARCHIVE_REQUESTS = Counter(
    "klines_archive_requests_total",
    "Calls to the archive for files, checksums and lists by what came: the HTTP status, or "
    "unreachable.",
    ("status",),
    (_STATUSES,),
)
ARCHIVE_FILES = Counter(
    "klines_archive_files_total",
    "Tries to download a file of the archive by outcome: good, or the name of the error.",
    ("source", "outcome"),
    (("monthly", "daily"), ("good", "NotPublished", *_REASONS)),
)
STORE_READ_BYTES = Counter(
    "klines_store_read_bytes_total", "Bytes of objects that were read from the store."
)
STORE_WRITTEN_BYTES = Counter(
    "klines_store_written_bytes_total", "Bytes of objects that were written to the store."
)
RETRIES = Counter(
    "klines_retries_total",
    "Tries that failed, by who was asked and the name of the error; most are tried again.",
    ("source", "reason"),
    (("rest", "archive"), _REASONS),
)
WINDOWS = Counter(
    "klines_windows_total",
    "Windows that were fetched (done), or given up for good (failed).",
    ("queue", "outcome"),
    (FETCH_QUEUES, _DONE_OR_FAILED),
)
BLOCKS = Counter(
    "klines_blocks_total",
    "Blocks that were compacted (done), or could not be (failed).",
    ("outcome",),
    (_DONE_OR_FAILED,),
)

REDIS_UP = Gauge(
    "klines_redis_up",
    "1 while Redis answers this worker; at 0 all that is read from Redis is left out.",
)
WEIGHT_USED = Gauge(
    "klines_weight_used",
    "Weight counted in the exchange's running minute, by us and by others.",
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
    "Seconds that the exchange's clock is ahead of Redis's.",
    ("pool", "egress"),
)
SHARED_EGRESS_PAIRS = Gauge(
    "klines_shared_egress_pairs",
    "Pairs of egress names that seem to be one public address.",
    ("pool",),
)
QUEUE_LENGTH = Gauge(
    "klines_queue_length", "Tasks that wait in a queue, those of no worker's hands.", ("queue",)
)
WORKERS = Gauge("klines_workers", "Living processes that serve a queue.", ("queue",))
RUNS_ACTIVE = Gauge("klines_runs_active", "Runs that have not ended.")
WINDOWS_IN_FLIGHT = Gauge(
    "klines_windows_in_flight", "Windows of active runs that are queued or being fetched."
)
FAILURES = Gauge(
    "klines_failures", "Windows, blocks and symbols of active runs that failed for good."
)
BLOCKS_WAITING = Gauge(
    "klines_blocks_waiting",
    "Blocks of active runs that are being fetched, or wait to be compacted.",
    ("status",),
)
OLDEST_WINDOW_SECONDS = Gauge(
    "klines_oldest_window_seconds",
    "Seconds since the oldest block whose windows are not all in was put under way.",
)
OLDEST_COMPACTION_SECONDS = Gauge(
    "klines_oldest_compaction_seconds",
    "Seconds since the oldest block that waits to be compacted was ready for it.",
)

ALL = tuple(metric for metric in list(globals().values()) if isinstance(metric, Metric))


def record(folder: Path, lane: str) -> None:
    """Have this process count from now on, in files of its lane below `folder`.

    A lane that is started again goes on in the same files: they never become more, and no count
    goes back.
    """
    from klinefleet.workers.patches.prometheus_lane import keep_values_by_lane

    keep_values_by_lane(folder, lane)
    from prometheus_client import CollectorRegistry

    count_in(CollectorRegistry())


def count_in(registry: CollectorRegistry) -> None:
    """Have this process count in a registry."""
    import prometheus_client as library

    for metric in ALL:
        if isinstance(metric, Counter):
            options: dict[str, Any] = {"buckets": SECONDS} if isinstance(metric, Histogram) else {}
            made = library.Histogram if options else library.Counter
            _meters[metric.name] = made(
                metric.name, metric.told, metric.labels, registry=registry, **options
            )
            for values in itertools.product(*metric.shown) if metric.shown else ():
                _meters[metric.name].labels(*values)


@contextmanager
def outcome(counter: Counter, **labels: str) -> Iterator[None]:
    """Count how the block ends: `good`, or with the name of the error that leaves it."""
    try:
        yield
    except errors.FleetError as error:
        counter.add(1, outcome=type(error).__name__, **labels)
        raise
    counter.add(1, outcome="good", **labels)


def _meter(metric: Metric, labels: dict[str, str]) -> Any:
    meter = _meters[metric.name]
    return meter.labels(**labels) if labels else meter

"""One partition of January that a run compacts, and what came of it."""

from __future__ import annotations

from typing import Any

from klinefleet.tasks.requests.request import Request
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.partition_codec import decode
from klinefleet.workers.lake.raw_zone import RawEntry
from tests.answers import ASKED_MS
from tests.unit.helpers.in_process_fleet import InProcessFleet
from tests.unit.helpers.klines import JANUARY, MINUTES, body, opens, times_of

KEY = keys.partition(Partition(MINUTES, "2024-01"))


def ready(one: InProcessFleet, partition: Partition) -> str:
    series, span = partition.series, partition.span
    run = one.begin(
        Request(
            series.market, series.kind, series.interval, ("BTCUSDT",), span.start_ms, span.end_ms
        )
    )
    assert one.runs.partitions.claim(run, partition)
    assert one.runs.partitions.open(run, partition, [])
    return run


def store(
    one: InProcessFleet,
    span: Span,
    rows: Span | None = None,
    partition: Partition = JANUARY,
    **how: Any,
) -> RawEntry:
    return one.services.raw_zone.store(
        partition, span, [body(opens(rows or span), **how)], asked_ms=ASKED_MS
    )


def lake(one: InProcessFleet, key: str = KEY) -> list[int]:
    got = one.services.store.read(key)
    return times_of(decode(got)) if got else []


def pending(one: InProcessFleet, run: str) -> list[Window]:
    return list(one.runs.partitions.reconcile(run).windows)


def failed(one: InProcessFleet, run: str) -> dict[str, str]:
    progress = one.runs.progress(run)
    assert progress
    return progress.failed

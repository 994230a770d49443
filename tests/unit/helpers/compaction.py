"""One block of January that a run compacts, and what came of it."""

from __future__ import annotations

from typing import Any

from klinefleet.tasks.requests.request import Request
from klinefleet.workers.domain.series import Block, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.partition_codec import decode
from klinefleet.workers.lake.raw_zone import RawEntry
from tests.unit.helpers.in_process_fleet import InProcessFleet
from tests.unit.helpers.klines import JANUARY, MINUTES, body, opens, times_of

KEY = keys.partition(MINUTES, "2024-01")


def ready(one: InProcessFleet, block: Block) -> str:
    series, span = block.series, block.span
    run = one.begin(
        Request(
            series.market, series.kind, series.interval, ("BTCUSDT",), span.start_ms, span.end_ms
        )
    )
    assert one.runs.blocks.claim(run, block)
    assert one.runs.blocks.open(run, block, [])
    return run


def store(
    one: InProcessFleet, span: Span, rows: Span | None = None, block: Block = JANUARY, **how: Any
) -> RawEntry:
    return one.services.raw_zone.store(block, span, [body(opens(rows or span), **how)])


def lake(one: InProcessFleet, key: str = KEY) -> list[int]:
    got = one.services.store.read(key)
    return times_of(decode(got)) if got else []


def pending(one: InProcessFleet, run: str) -> list[Window]:
    return list(one.runs.blocks.reconcile(run).windows)


def failed(one: InProcessFleet, run: str) -> dict[str, str]:
    progress = one.runs.progress(run)
    assert progress
    return progress.failed

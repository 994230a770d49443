"""How tasks are sent: their queues, their arguments, and how Flower shows them.

Each message says when it counts as sent, Redis µs: by that lost work is told from work that waits
(`runs/lost.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from klinefleet.workers.app import app
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.queues import COMPACT, FIRST, PLAN, SENT_US, queue_of
from klinefleet.workers.domain.series import Block, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS


def send_plan(run: str, sent_us: int, *, first: bool = False) -> None:
    """Have somebody go on planning a run; `first`: before all that waits."""
    send("klines.plan", [run], PLAN, f"run {run}", sent_us, first=first)


def send_fetch(run: str, windows: Iterable[Window], sent_us: int, *, first: bool = False) -> None:
    """Have windows fetched, in one batch; a copy sent twice is fetched once. `first`: before all
    that waits.

    The first counts as sent at `sent_us`, Redis µs, each of the others a microsecond later.
    """
    with app.producer_or_acquire() as producer, producer.batch():
        for number, window in enumerate(windows):
            span = window.span
            args = [run, str(window.block), span.start_ms, span.end_ms, str(window.source)]
            shows = f"{task_label(window)}, {window.source}, run {run}"
            at_us = sent_us if first else sent_us + number
            send(
                "klines.fetch", args, queue_of(window), shows, at_us, first=first, producer=producer
            )


def send_compact(run: str, block: Block, sent_us: int, *, first: bool = False) -> None:
    """Have a block compacted; `first`: before all that waits."""
    send(
        "klines.compact",
        [run, str(block)],
        COMPACT,
        f"{task_label(block)}, run {run}",
        sent_us,
        first=first,
    )


def send(
    task: str,
    args: list[Any],
    queue: str,
    shows: str,
    sent_us: int,
    *,
    first: bool = False,
    producer: Any = None,
) -> None:
    """Send a task that counts as sent at `sent_us`, Redis µs.

    Flower shows its arguments as `shows`.
    """
    headers = {SENT_US: sent_us, **({FIRST: True} if first else {})}
    app.send_task(
        task,
        args=args,
        queue=queue,
        argsrepr=shows,
        kwargsrepr="",
        headers=headers,
        producer=producer,
    )


def task_label(what: Window | Block) -> str:
    """Return what a task works on as it fits the column of Flower: `um BTCUSDT 1m 2024-01-07
    04:48..01-13 09:36Z`.

    Times are UTC; what the end shares with the start, and midnights, are left out.
    """
    series = what.series if isinstance(what, Block) else what.block.series
    kind = "" if series.kind == DEFAULT_KIND else f" {series.kind}"
    interval = f" {series.interval}" if series.interval.is_grid else ""
    time = what.period if isinstance(what, Block) else _span_label(what.span)
    return f"{series.market} {series.symbol}{interval}{kind} {time}"


def _span_label(span: Span) -> str:
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (span.start_ms, span.end_ms))
    day = f"{end:%m-%d}" if start.year == end.year else f"{end:%Y-%m-%d}"
    if not (span.start_ms % DAY_MS or span.end_ms % DAY_MS):
        return f"{start:%Y-%m-%d}..{day}"
    return f"{start:%Y-%m-%d %H:%M}..{day} {end:%H:%M}Z"

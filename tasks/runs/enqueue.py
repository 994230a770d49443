"""Sends tasks: their queues, their arguments, and what Flower shows of them.

Each message carries its `sent_us`, by which `lost_work.py` tells lost work from waiting work.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from klinefleet.workers.app import app
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.queues import COMPACT, FIRST, PLAN, SENT_US, queue_of
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS


def send_plan(run: str, sent_us: int, *, first: bool = False) -> None:
    """Send a plan task; `first` puts it at the front of its queue."""
    send("klines.plan", [run], PLAN, f"run {run}", sent_us, first=first)


def send_fetch(run: str, windows: Iterable[Window], sent_us: int, *, first: bool = False) -> None:
    """Send a fetch task for each window, in one batch; `first` puts them at the front.

    The first window has `sent_us`, each of the others 1 µs more than the one before it; at the
    front, all have `sent_us`. A window that is sent twice is fetched once.
    """
    with app.producer_or_acquire() as producer, producer.batch():
        for number, window in enumerate(windows):
            span = window.span
            send(
                "klines.fetch",
                [run, str(window.partition), span.start_ms, span.end_ms, str(window.source)],
                queue_of(window),
                f"{task_label(window)}, {window.source}, run {run}",
                sent_us if first else sent_us + number,
                first=first,
                producer=producer,
            )


def send_compact(run: str, partition: Partition, sent_us: int, *, first: bool = False) -> None:
    """Send a compact task; `first` puts it at the front of its queue."""
    label = f"{task_label(partition)}, run {run}"
    send("klines.compact", [run, str(partition)], COMPACT, label, sent_us, first=first)


def send(
    task: str,
    args: list[Any],
    queue: str,
    label: str,
    sent_us: int,
    *,
    first: bool = False,
    producer: Any = None,
) -> None:
    """Send a task. Flower shows `label` in place of its arguments."""
    headers = {SENT_US: sent_us, **({FIRST: True} if first else {})}
    app.send_task(
        task,
        args=args,
        queue=queue,
        argsrepr=label,
        kwargsrepr="",
        headers=headers,
        producer=producer,
    )


def task_label(work: Window | Partition) -> str:
    """Return a short label: `um BTCUSDT 1m 2024-01-07 04:48..01-13 09:36Z`.

    Times are UTC. Omitted are midnights, and a year of the end that is the start's.
    """
    series = work.series if isinstance(work, Partition) else work.partition.series
    kind = "" if series.kind == DEFAULT_KIND else f" {series.kind}"
    interval = f" {series.interval}" if series.interval.is_grid else ""
    time = work.period if isinstance(work, Partition) else _span_label(work.span)
    return f"{series.market} {series.symbol}{interval}{kind} {time}"


def _span_label(span: Span) -> str:
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (span.start_ms, span.end_ms))
    day = f"{end:%m-%d}" if start.year == end.year else f"{end:%Y-%m-%d}"
    if not (span.start_ms % DAY_MS or span.end_ms % DAY_MS):
        return f"{start:%Y-%m-%d}..{day}"
    return f"{start:%Y-%m-%d %H:%M}..{day} {end:%H:%M}Z"

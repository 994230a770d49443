"""How tasks are sent: their queues, their arguments, and how Flower shows them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from workers.app import app
from workers.model import DAY_MS, Block, Kind, Span, Window
from workers.queues import COMPACT, PLAN, queue_of


def send_plan(run: str) -> None:
    """Have somebody go on planning a run."""
    app.send_task("klines.plan", args=[run], queue=PLAN, argsrepr=f"run {run}", kwargsrepr="")


def send_fetch(run: str, windows: Iterable[Window]) -> None:
    """Have windows fetched, in one batch; a copy sent twice is fetched once."""
    with app.producer_or_acquire() as producer, producer.batch():
        for window in windows:
            span = window.span
            app.send_task(
                "klines.fetch",
                args=[run, str(window.block), span.start_ms, span.end_ms, str(window.source)],
                queue=queue_of(window),
                argsrepr=f"{shown(window)}, {window.source}, run {run}",
                kwargsrepr="",
                producer=producer,
            )


def send_compact(run: str, block: Block) -> None:
    """Have a block compacted."""
    shows = f"{shown(block)}, run {run}"
    app.send_task("klines.compact", args=[run, str(block)], queue=COMPACT, argsrepr=shows, kwargsrepr="")


def shown(what: Window | Block) -> str:
    """Return what a task works on as it fits the column of Flower: `um BTCUSDT 1m 2024-01-07 04:48..01-13 09:36Z`.

    Times are UTC; what the end shares with the start, and midnights, are left out.
    """
    series = what.series if isinstance(what, Block) else what.block.series
    kind = "" if series.kind is Kind.KLINES else f" {series.kind}"
    interval = f" {series.interval}" if series.interval.is_grid else ""
    time = what.period if isinstance(what, Block) else _shown(what.span)
    return f"{series.market} {series.symbol}{interval}{kind} {time}"


def _shown(span: Span) -> str:
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (span.start_ms, span.end_ms))
    day = f"{end:%m-%d}" if start.year == end.year else f"{end:%Y-%m-%d}"
    if not (span.start_ms % DAY_MS or span.end_ms % DAY_MS):
        return f"{start:%Y-%m-%d}..{day}"
    return f"{start:%Y-%m-%d %H:%M}..{day} {end:%H:%M}Z"

"""How tasks are sent: their queues, their arguments, and how Flower shows them."""

from __future__ import annotations

from collections.abc import Iterable

from workers.app import app
from workers.model import Block, Window
from workers.queues import COMPACT, PLAN, queue_of


def send_plan(run: str) -> None:
    """Have somebody go on planning a run."""
    app.send_task("klines.plan", args=[run], queue=PLAN, argsrepr=f"run {run}")


def send_fetch(run: str, windows: Iterable[Window]) -> None:
    """Have windows fetched, in one batch; a copy sent twice is fetched once."""
    with app.producer_or_acquire() as producer, producer.batch():
        for window in windows:
            span = window.span
            app.send_task(
                "klines.fetch",
                args=[run, str(window.block), span.start_ms, span.end_ms, str(window.source)],
                queue=queue_of(window),
                argsrepr=f"{window} (run {run})",
                producer=producer,
            )


def send_compact(run: str, block: Block) -> None:
    """Have a block compacted."""
    app.send_task("klines.compact", args=[run, str(block)], queue=COMPACT, argsrepr=f"{block} (run {run})")

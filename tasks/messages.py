"""How tasks are sent: their queues, their arguments, and how Flower shows them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from workers.app import app
from workers.model import MINUTE_MS, Block, Kind, Series, Window
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
                argsrepr=f"{shown(window)}, run {run}",
                kwargsrepr="",
                producer=producer,
            )


def send_compact(run: str, block: Block) -> None:
    """Have a block compacted."""
    shows = f"{shown(block)}, run {run}"
    app.send_task("klines.compact", args=[run, str(block)], queue=COMPACT, argsrepr=shows, kwargsrepr="")


def shown(what: Window | Block) -> str:
    """Return what a task works on as a table shows it: `um BTCUSDT 1m, 2024-01-01 00:00 to 2024-01-02 12:00 UTC, rest`.

    The words are those that the search of Flower's table finds it by.
    """
    if isinstance(what, Block):
        return f"{_name(what.series)}, {what.period}"
    return (
        f"{_name(what.block.series)}, {_moment(what.span.start_ms)} to {_moment(what.span.end_ms)} UTC, {what.source}"
    )


def _name(series: Series) -> str:
    kind = "" if series.kind is Kind.KLINES else f" {series.kind}"
    interval = f" {series.interval}" if series.interval.is_grid else ""
    return f"{series.market} {series.symbol}{interval}{kind}"


def _moment(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(" ", "minutes" if ms % MINUTE_MS == 0 else "milliseconds")[: -len("+00:00")]

"""What a task works on, as fields of every line that is logged meanwhile, by whom and in what thread ever."""

from __future__ import annotations

from typing import Any

from celery.signals import setup_logging, task_postrun, task_prerun
from structlog.contextvars import bind_contextvars, clear_contextvars

from klinefleet.workers.domain.series import Block, Window


def bind_log_context(run: str, what: Window | Block | None = None) -> None:
    """Have every line until the task's end say what it is about, the library's own lines included."""
    bind_contextvars(run=run)
    if isinstance(what, Window):
        bind_contextvars(series=str(what.block.series), window=str(what.span), source=str(what.source))
    elif what:
        bind_contextvars(series=str(what.series), window=str(what.span))


@task_prerun.connect  # type: ignore[untyped-decorator]
def _begin(task_id: str, task: Any, **_: Any) -> None:
    clear_contextvars()
    bind_contextvars(task=task.name, id=task_id)


@task_postrun.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    clear_contextvars()


@setup_logging.connect  # type: ignore[untyped-decorator]
def _leave_logging_alone(**_: Any) -> None:
    """Keep the library from setting up handlers and levels of its own: it asks whether anybody listens here."""

"""What a task works on, as fields of every line that is logged meanwhile, by whom and in what
thread ever.
"""

from __future__ import annotations

from typing import Any

from celery.signals import setup_logging, task_postrun, task_prerun
from structlog.contextvars import bind_contextvars, clear_contextvars

from klinefleet.workers.domain.series import Block, Window


def bind_log_context(run: str, what: Window | Block | None = None) -> None:
    """Have every line until the task's end say what it is about, the library's own lines included."""
    bind_contextvars(run=run)
    if isinstance(what, Window):
        bind_contextvars(
            series=str(what.block.series), window=str(what.span), source=str(what.source)
        )
    elif what:
        bind_contextvars(series=str(what.series), window=str(what.span))


def connect_task_logging() -> None:
    """Have each task of this process log its name and id, and leave the process's log handlers as
    they are.
    """
    task_prerun.connect(_begin)
    task_postrun.connect(_end)
    setup_logging.connect(_leave_logging_alone)


def _begin(task_id: str, task: Any, **_: Any) -> None:
    clear_contextvars()
    bind_contextvars(task=task.name, id=task_id)


def _end(**_: Any) -> None:
    clear_contextvars()


def _leave_logging_alone(**_: Any) -> None:
    """Keep the library from setting up handlers and levels of its own: it asks whether anybody
    listens here.
    """

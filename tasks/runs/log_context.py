"""Binds the task at work, its run, series and window to every log record of its thread."""

from __future__ import annotations

from typing import Any

from celery.signals import setup_logging, task_postrun, task_prerun
from structlog.contextvars import bind_contextvars, clear_contextvars

from klinefleet.workers.domain.series import Partition, Window


def bind_log_context(run: str, work: Window | Partition | None = None) -> None:
    """Bind run, series and window to every log record until the task ends."""
    bind_contextvars(run=run)
    if isinstance(work, Window):
        bind_contextvars(
            series=str(work.partition.series), window=str(work.span), source=str(work.source)
        )
    elif work:
        bind_contextvars(series=str(work.series), window=str(work.span))


def connect_task_logging() -> None:
    """Bind each task's name and id to its log records; keep the process's own log handlers."""
    task_prerun.connect(_bind_task)
    task_postrun.connect(_unbind)
    setup_logging.connect(_keep_handlers)


def _bind_task(task_id: str, task: Any, **_: Any) -> None:
    clear_contextvars()
    bind_contextvars(task=task.name, id=task_id)


def _unbind(**_: Any) -> None:
    clear_contextvars()


def _keep_handlers(**_: Any) -> None:
    """Do nothing: Celery sets up no handlers of its own once this signal has a receiver."""

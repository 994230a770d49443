"""Logging of every process: one event per line on stderr, as JSON or text, with secrets masked.

The number of lines is bounded: `RepeatedFailure` logs a job that keeps failing when it begins to
fail and when it works again; `BoundedHandler` writes a few warnings of one kind a minute.

The code logs through the standard library (`logger = logging.getLogger(__name__)`), as Celery and
kombu do; structlog only formats the lines. tasks/runs/log_context.py binds a task's run, series and
window, which become fields of each line.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from klinefleet.workers.support.masking import mask_secrets, one_line, printable, secrets_in
from klinefleet.workers.support.once import once

if TYPE_CHECKING:
    # Imported with the first log line, so that a command that logs nothing starts faster.
    from structlog.stdlib import ProcessorFormatter


Fields = MutableMapping[str, Any]

AUTO, JSON, TEXT = "auto", "json", "text"
#: The parent of all our loggers. Libraries log from WARNING on only, so not for each task.
_OUR_LOGGER = "klinefleet"
#: Logs that a lane has connected to Redis, also after a connection was lost: logged from INFO on.
_CONNECTION_LOGGER = "celery.worker.consumer.connection"
#: Logs the end of each task. Expected failures are logged by us, so only ERROR is of interest.
_TASK_LOGGER = "celery.app.trace"
#: The fields that come first, in this order.
_FIRST_FIELDS = (
    "time",
    "level",
    "logger",
    "event",
    "lane",
    "run",
    "task",
    "id",
    "series",
    "window",
    "source",
)
#: Warnings of one kind that are written in a minute.
MOST_ALIKE = 20
#: ANSI colours of lines on a terminal, by level.
_COLOURS = {"debug": 2, "warning": 33, "error": 31, "critical": 31}


def log_to_stderr(level: str, log_format: str = AUTO) -> None:
    """Log our events from `level` on and the warnings of libraries; at DEBUG also Celery's events.

    log_format: `json`, `text`, or `auto` for text on a terminal and JSON elsewhere.
    """
    is_terminal = sys.stderr.isatty()
    as_json = log_format == JSON or (log_format == AUTO and not is_terminal)
    handler = BoundedHandler(sys.stderr)
    handler.setFormatter(
        LineFormatter(as_json=as_json, is_coloured=is_terminal, secrets=secrets_in(os.environ))
    )
    logging.basicConfig(level=max(logging.WARNING, _number(level)), handlers=[handler], force=True)
    logging.getLogger(_OUR_LOGGER).setLevel(level.upper())
    is_debug = _number(level) <= logging.DEBUG
    logging.getLogger("celery").setLevel(logging.INFO if is_debug else logging.WARNING)
    logging.getLogger(_TASK_LOGGER).setLevel(logging.INFO if is_debug else logging.ERROR)
    logging.getLogger(_CONNECTION_LOGGER).setLevel(max(logging.INFO, _number(level)))
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_death


class LineFormatter(logging.Formatter):
    """Formats a record as one line of JSON, or of text followed by its traceback, if any."""

    def __init__(
        self, *, as_json: bool, is_coloured: bool = False, secrets: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._as_json = as_json
        self._is_coloured = is_coloured
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return self._formatter.format(record)

    @once
    def _formatter(self) -> ProcessorFormatter:
        import structlog

        json_line = structlog.processors.JSONRenderer(ensure_ascii=False)
        render: Any = json_line if self._as_json else self._text_line
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_record_fields, structlog.contextvars.merge_contextvars],
            processors=[structlog.processors.format_exc_info, _order_fields, self._mask, render],
        )

    def _mask(self, _logger: Any, _method: str, fields: Fields) -> Fields:
        return {
            name: printable(mask_secrets(str(value), self._secrets))
            for name, value in fields.items()
        }

    def _text_line(self, _logger: Any, _method: str, fields: Fields) -> str:
        time, level, event = (fields.pop(name) for name in ("time", "level", "event"))
        event, traceback = " ".join(event.split()), fields.pop("exception", "")
        # Left out: what the event says already, and ids that only programs search for.
        shown = [
            f"{name}={one_line(value)}"
            for name, value in fields.items()
            if name not in ("id", "logger") and value not in event
        ]
        line = "  ".join([f"{time[len('YYYY-MM-DD ') :]} {level:<8}{event}", *shown])
        if self._is_coloured and level in _COLOURS:
            line = f"\033[{_COLOURS[level]}m{line}\033[0m"
        return f"{line}\n{traceback}" if traceback else line


class RepeatedFailure:
    """Logs when a job begins to fail, when the reason changes, and when it succeeds again.

    what: the job.
    """

    def __init__(
        self, logger: logging.Logger, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._what, self._clock = logger, what, clock
        self._reason = ""
        self._began_s = 0.0

    def failed(self, reason: str) -> None:
        """Log that the job failed, unless it failed for the same reason before."""
        if not self._reason:
            self._began_s = self._clock()
        if reason != self._reason:
            self._logger.warning("%s fails, trying again: %s", self._what, reason)
        self._reason = reason

    def succeeded(self) -> None:
        """Log that the job succeeded, if it failed before."""
        if self._reason:
            seconds = self._clock() - self._began_s
            self._logger.warning("%s works again after %.0f s", self._what, seconds)
        self._reason = ""


class BoundedHandler(logging.StreamHandler[Any]):
    """Writes the first warnings of a kind in each minute, and then how many more there were.

    Warnings are of one kind if they come from one line of the code.
    """

    def __init__(self, stream: Any, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._minute = 0
        self._counts = Counter[tuple[str, int, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute, before = minute, self._counts
            self._counts = Counter()
            for kind, count in before.items():
                self._write_rest(kind, count - MOST_ALIKE)
        if record.levelno >= logging.WARNING:
            kind = (record.name, record.levelno, f"{record.pathname}:{record.lineno}")
            self._counts[kind] += 1
            if self._counts[kind] > MOST_ALIKE:
                return
        super().emit(record)

    def _write_rest(self, kind: tuple[str, int, str], count: int) -> None:
        if count <= 0:
            return
        name, level, place = kind
        text = f"{count:,} more messages like the last ones of {name} in the last minute"
        path, _, line = place.rpartition(":")
        super().emit(logging.LogRecord(name, level, path, int(line), text, None, None))


def _add_record_fields(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Add time, level and logger of the record, and the lane, which is its process's name."""
    record: logging.LogRecord = fields["_record"]
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    added = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    lane = {} if record.processName in (None, "MainProcess") else {"lane": record.processName}
    return {**fields, **added, **lane}


def _order_fields(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Return the fields in reading order, without structlog's own."""
    others = [name for name in fields if name not in _FIRST_FIELDS and not name.startswith("_")]
    return {name: fields[name] for name in (*_FIRST_FIELDS, *others) if name in fields}


def _log_thread_death(died: threading.ExceptHookArgs) -> None:
    """Log the error that ended a thread as one event, instead of Python's bare traceback."""
    if died.exc_value is not None:
        name = died.thread.name if died.thread else "?"
        info = (died.exc_type, died.exc_value, died.exc_traceback)
        logging.getLogger(__name__).error("thread %s died", name, exc_info=info)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]

"""How every process logs: one event a line on stderr, JSON for programs, words for people, never a
secret.

The code logs by the standard library (`logger = logging.getLogger(__name__)`), as Celery and kombu
do; structlog only writes the lines. What a task works on is bound by tasks/runs/log_context.py;
each line has it as a field of its own.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from klinefleet.workers.support.masking import mask_secrets, secrets_of
from klinefleet.workers.support.once import once

if TYPE_CHECKING:
    # Imported with the first line: a command that has nothing to log does not wait for it.
    from structlog.stdlib import ProcessorFormatter


Fields = MutableMapping[str, Any]

AUTO, JSON, TEXT = FORMS = ("auto", "json", "text")
#: The logger above all of ours. Libraries speak up from WARNING on only: quiet at rest, and no line
#: per task.
_OURS = "klinefleet"
#: Says that a lane reached Redis, and that Redis is back: the end of a story that began with
#: warnings.
_CONNECTED = "celery.worker.consumer.connection"
#: Tells of each task as it ends. That one was handed back or failed is in our own lines; what
#: nobody expected is here.
_ENDS = "celery.app.trace"
#: The order of the fields; others follow.
_ORDER = (
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
#: Colours of a terminal by level; a line has no other.
_COLOURS = {"debug": 2, "warning": 33, "error": 31, "critical": 31}


def log_to_stderr(level: str, form: str = AUTO) -> None:
    """Have our events from `level` on and libraries' warnings written to stderr; at DEBUG Celery's
    own words, too.

    The form `auto` is text on a terminal and JSON elsewhere.
    """
    is_terminal = sys.stderr.isatty()
    as_json = form == JSON or (form == AUTO and not is_terminal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        Lines(as_json=as_json, is_coloured=is_terminal, secrets=secrets_of(os.environ))
    )
    logging.basicConfig(level=max(logging.WARNING, _number(level)), handlers=[handler], force=True)
    logging.getLogger(_OURS).setLevel(level.upper())
    is_debug = _number(level) <= logging.DEBUG
    logging.getLogger("celery").setLevel(logging.INFO if is_debug else logging.WARNING)
    logging.getLogger(_ENDS).setLevel(logging.INFO if is_debug else logging.ERROR)
    logging.getLogger(_CONNECTED).setLevel(max(logging.INFO, _number(level)))
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


class Lines(logging.Formatter):
    """Makes each record one line of JSON, or one of text (a traceback then follows it)."""

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

        write: Any = (
            structlog.processors.JSONRenderer(ensure_ascii=False) if self._as_json else self._text
        )
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_facts, structlog.contextvars.merge_contextvars],
            processors=[structlog.processors.format_exc_info, _in_order, self._masked, write],
        )

    def _masked(self, _logger: Any, _method: str, fields: Fields) -> Fields:
        return {name: mask_secrets(str(value), self._secrets) for name, value in fields.items()}

    def _text(self, _logger: Any, _method: str, fields: Fields) -> str:
        time, level, event = (fields.pop(name) for name in ("time", "level", "event"))
        event, trace = " ".join(event.split()), fields.pop("exception", "")
        # A person has read in the sentence what it is about, and does not look tasks up by their
        # id.
        known = {
            name: value
            for name, value in fields.items()
            if name not in ("id", "logger") and value not in event
        }
        line = "  ".join(
            [
                f"{time[11:]} {level:<8}{event}",
                *(f"{name}={value}" for name, value in known.items()),
            ]
        )
        if self._is_coloured and level in _COLOURS:
            line = f"\033[{_COLOURS[level]}m{line}\033[0m"
        return f"{line}\n{trace}" if trace else line


def _facts(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Add what a record tells of itself; the process's name is its lane's."""
    record: logging.LogRecord = fields["_record"]
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    told = {
        "time": moment.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    lane = {} if record.processName in (None, "MainProcess") else {"lane": record.processName}
    return {**fields, **told, **lane}


def _in_order(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Return the fields as they are read; what is structlog's own is left out."""
    others = [name for name in fields if name not in _ORDER and not name.startswith("_")]
    return {name: fields[name] for name in (*_ORDER, *others) if name in fields}


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """Log what ended a thread, instead of a traceback over many lines."""
    if died.exc_value is not None:
        name = died.thread.name if died.thread else "?"
        info = (died.exc_type, died.exc_value, died.exc_traceback)
        logging.getLogger(__name__).error("thread %s ended by an error", name, exc_info=info)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]

"""What a run has to say: one record for failures, reports and notes, and the report in the store
that outlives it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from klinefleet.workers.domain.series import Block, Series, Window
from klinefleet.workers.domain.spans import Span


class Level(StrEnum):
    """How much a record weighs."""

    FAILED = "failed"
    """Wanted and not in the lake: the run is incomplete."""
    REPORT = "report"
    """Something was wrong, and what was done about it; nothing is missing by it."""
    NOTE = "note"
    """A user should know it of a symbol."""


#: How a record's name says where it looked.
_OF = {
    "monthly": " (monthly archive)",
    "daily": " (daily archive)",
    "archive": " in the archive",
    "lake": " in the lake",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that a run has to say."""

    level: Level
    text: str
    series: Series | None = None
    """None: of the run as a whole."""
    span: Span | None = None
    """None: of all that was asked for."""
    source: str = ""
    """A file's key, a Source, or what else it is about: `plan`, `archive`, `lake`, `sources` that
    differ.
    """

    @classmethod
    def of_window(cls, level: Level, window: Window, text: str) -> Self:
        """Return a record of a window."""
        return cls(level, text, window.block.series, window.span, str(window.source))

    @classmethod
    def of_block(cls, level: Level, block: Block, text: str) -> Self:
        """Return a record of all of a block."""
        return cls(level, text, block.series, block.span)

    @property
    def name(self) -> str:
        """What it speaks of, for people."""
        if "/" in self.source or self.series is None:
            return self.source
        series = self.series
        if self.level is Level.NOTE:
            return series.symbol
        if self.span is None:
            return f"{series.market} {series.symbol}"
        return f"{series.label} {self.span}{_OF.get(self.source, '')}"

    @property
    def identity(self) -> str:
        """What a later record of the same thing shares with it."""
        span = [self.span.start_ms, self.span.end_ms] if self.span else None
        return json.dumps(
            [self.level, str(self.series) if self.series else None, span, self.source]
        )

    @classmethod
    def of(cls, identity: str, text: str) -> Self:
        """Return the record that has this identity; ValueError where there is none."""
        level, series, span, source, *_ = json.loads(identity)
        return cls(
            Level(level),
            text,
            Series.parse(series) if series else None,
            Span(*span) if span else None,
            source,
        )


def named(records: Iterable[Record], level: Level) -> dict[str, str]:
    """Return what the records of a level say by what they speak of, sorted."""
    return {
        record.name: record.text
        for record in sorted(_of_level(records, level), key=lambda record: record.name)
    }


def failures_by_series(records: Iterable[Record]) -> dict[Series, list[Record]]:
    """Return the failures of each series."""
    found: dict[Series, list[Record]] = {}
    for record in _of_level(records, Level.FAILED):
        if record.series:
            found.setdefault(record.series, []).append(record)
    return found


def _of_level(records: Iterable[Record], level: Level) -> Iterator[Record]:
    return (record for record in records if record.level is level)

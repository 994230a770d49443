"""Records: the failures, reports and notes of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from klinefleet.workers.domain.series import Partition, Series, Window
from klinefleet.workers.domain.spans import Span


class Level(StrEnum):
    """The severity of a record."""

    FAILED = "failed"
    """Requested and not in the lake: the run is incomplete."""
    REPORT = "report"
    """A fault and what was done about it; no rows are missing because of it."""
    NOTE = "note"
    """A fact about a symbol that a user should know."""


#: How a record's name spells its source.
_SOURCE_SUFFIXES = {
    "monthly": " (monthly archive)",
    "daily": " (daily archive)",
    "archive": " in the archive",
    "lake": " in the lake",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One failure, report or note."""

    level: Level
    text: str
    series: Series | None = None
    """None: the whole run."""
    span: Span | None = None
    """None: the whole requested range."""
    source: str = ""
    """A file's key, a Source, or one of `plan`, `archive`, `lake`, `sources` (they differ)."""

    @classmethod
    def for_window(cls, level: Level, window: Window, text: str) -> Self:
        """Return a record of a window."""
        return cls(level, text, window.partition.series, window.span, str(window.source))

    @classmethod
    def for_partition(cls, level: Level, partition: Partition, text: str) -> Self:
        """Return a record of a whole partition."""
        return cls(level, text, partition.series, partition.span)

    @property
    def name(self) -> str:
        """The record's subject, for people."""
        if "/" in self.source or self.series is None:
            return self.source
        series = self.series
        if self.level is Level.NOTE:
            return series.symbol
        if self.span is None:
            return f"{series.market} {series.symbol}"
        return f"{series.label} {self.span}{_SOURCE_SUFFIXES.get(self.source, '')}"

    @property
    def identity(self) -> str:
        """The record's subject as JSON. A later record of the same identity replaces this one."""
        span = [self.span.start_ms, self.span.end_ms] if self.span else None
        return json.dumps(
            [self.level, str(self.series) if self.series else None, span, self.source]
        )

    @classmethod
    def from_identity(cls, identity: str, text: str) -> Self:
        """Return the record of this identity; raise ValueError if it is malformed."""
        level, series, span, source, *_ = json.loads(identity)
        return cls(
            Level(level),
            text,
            Series.parse(series) if series else None,
            Span(*span) if span else None,
            source,
        )


#: Where a run keeps that REST does not answer it, so that the archive goes on alone.
REST_AWAY = Record(Level.REPORT, "", source="REST")


def texts_by_name(records: Iterable[Record], level: Level) -> dict[str, str]:
    """Return name → text of the records of a level, sorted by name."""
    chosen = sorted(_filter(records, level), key=lambda record: record.name)
    return {record.name: record.text for record in chosen}


def failures_by_series(records: Iterable[Record]) -> dict[Series, list[Record]]:
    """Return the failures of each series."""
    failures: dict[Series, list[Record]] = {}
    for record in _filter(records, Level.FAILED):
        if record.series:
            failures.setdefault(record.series, []).append(record)
    return failures


def _filter(records: Iterable[Record], level: Level) -> Iterator[Record]:
    return (record for record in records if record.level is level)

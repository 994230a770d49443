"""Records: the failures, reports and notes of a run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from klinefleet.workers.domain.series import Partition, Series, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import month_start


class Level(StrEnum):
    """The severity of a record."""

    FAILED = "failed"
    """Requested and not in the lake: the run is incomplete."""
    REPORT = "report"
    """A fault and what was done about it; no rows are missing because of it."""
    NOTE = "note"
    """A fact about a symbol that a user should know."""


#: What a text says of one case alone, in brackets or as a partition's key: the rest is the cause.
_DETAIL = re.compile(r" \(.*\)| \S+\.parquet:", re.DOTALL)
#: Symbols that the name of several records has.
_NAMED_SYMBOLS = 3

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
    def cause(self) -> str:
        """The text without what it tells of this one case: a file's key, a body."""
        return _DETAIL.sub("", self.text)

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
#: Why a run's report is not in the store, which makes the run incomplete.
NO_REPORT = Record(Level.FAILED, "", source="report")


@dataclass
class Cause:
    """Records of one level and one cause, which people read as one line."""

    level: Level
    records: list[Record] = field(default_factory=list)
    consequences: list[Record] = field(default_factory=list)
    """Failures and reports of the daily files that were fetched in place of monthly ones."""

    @property
    def name(self) -> str:
        """What the records are about: one's own name, or how many, of which symbols, and when."""
        first, *others = self.records
        if not others:
            return first.name
        symbols = sorted({record.series.symbol for record in self.records if record.series})
        shown = ", ".join(symbols[:_NAMED_SYMBOLS])
        if len(symbols) > _NAMED_SYMBOLS:
            shown = f"{len(symbols):,} symbols ({shown}, …)"
        parts = [record.span for record in self.records if record.span]
        if not parts:
            return shown
        noun = "files" if "/" in first.source else "windows"
        whole = Span(min(part.start_ms for part in parts), max(part.end_ms for part in parts))
        return f"{len(self.records):,} {noun} of {shown}, {whole}"

    @property
    def text(self) -> str:
        """What the records have in common, and what came of it."""
        texts = {record.text for record in self.records}
        cause = self.records[0].cause
        text = texts.pop() if len(texts) == 1 else cause
        counts = Counter(record.cause for record in self.consequences)
        outcomes = [
            f"{count:,} failed alike" if cause.startswith(other) else f"{count:,}: {other}"
            for other, count in counts.most_common()
        ]
        return f"{text}, of which {' and '.join(outcomes)}" if outcomes else text

    @property
    def size(self) -> int:
        return len(self.records) + len(self.consequences)


def causes(records: Iterable[Record]) -> list[Cause]:
    """Return what records have in common: what is of the whole run first, then the biggest.

    A monthly file and the daily files that failed in its place are of one cause.
    """
    by_name = {(record.name, record.level): record for record in records}
    records = [by_name[name] for name in sorted(by_name)]
    consequences = _consequences(records)
    told = {record for found in consequences.values() for record in found}
    found: dict[tuple[Level, str, str], Cause] = {}
    for record in records:
        if record not in told:
            of_record = consequences.get(record, [])
            has_failed = any(one.level is Level.FAILED for one in of_record)
            level = Level.FAILED if has_failed else record.level
            subject = "" if record.series else record.name
            cause = found.setdefault((level, subject, record.cause), Cause(level))
            cause.records.append(record)
            cause.consequences += of_record
    return sorted(found.values(), key=lambda one: (one.records[0].series is not None, -one.size))


def _consequences(records: Iterable[Record]) -> dict[Record, list[Record]]:
    """Return the records of monthly files, each with those of the daily files in its place."""
    records = [record for record in records if record.series and record.span]
    months = {_month(record): record for record in records if _has_daily_files_instead(record)}
    found: dict[Record, list[Record]] = {}
    for record in records:
        is_daily = record.source == "daily" or "/daily/" in record.source
        if is_daily and (month := months.get(_month(record))):
            found.setdefault(month, []).append(record)
    return found


def _has_daily_files_instead(record: Record) -> bool:
    return "/monthly/" in record.source and "daily files" in record.text


def _month(record: Record) -> tuple[Series | None, int]:
    return record.series, month_start(record.span.start_ms if record.span else 0)


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

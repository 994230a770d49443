"""Decodes a partition's raw objects into rows, and sets those aside that do not decode."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.binance.archive_zip import member
from klinefleet.workers.binance.decode import decode_archive, decode_pages
from klinefleet.workers.domain.errors import ArchiveFileUnusable, BadAnswer, RawDamaged
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.consensus import SourceRows
from klinefleet.workers.support import metrics

logger = logging.getLogger(__name__)


@dataclass
class Loaded:
    """A partition's raw objects, decoded."""

    frames: list[tuple[RawEntry, pl.DataFrame]] = field(default_factory=list)
    damaged: list[RawEntry] = field(default_factory=list)
    """Raw objects whose bytes are not as they were stored."""
    unusable: list[tuple[RawEntry, ArchiveFileUnusable]] = field(default_factory=list)
    """Archive files that are as they were published, and cannot be used."""

    @property
    def versions(self) -> list[SourceRows]:
        return [
            SourceRows(entry.source, entry.span, rows, entry.asked_ms)
            for entry, rows in self.frames
        ]


def load_raw_objects(services: Services, entries: Iterable[RawEntry]) -> Loaded:
    """Return the rows of raw objects. One that another compaction has deleted is left out."""
    loaded = Loaded()
    for entry in entries:
        try:
            bodies = services.raw_zone.load(entry)
            if bodies is not None:
                loaded.frames.append((entry, _decode(entry, bodies)))
                _count_file(entry, loaded.frames[-1][1].height)
        except ArchiveFileUnusable as error:
            logger.warning("compact %s: %s", entry.partition, error.reason)
            metrics.RETRIES.add(source="archive", reason=type(error).__name__)
            loaded.unusable.append((entry, error))
        except (RawDamaged, BadAnswer) as error:
            logger.error("compact %s: %s", entry.partition, error.reason)
            metrics.RETRIES.add(source="store", reason=type(error).__name__)
            loaded.damaged.append(entry)
    return loaded


def _count_file(entry: RawEntry, rows: int) -> None:
    """Count a file's rows. Those of REST were counted when they were fetched."""
    if entry.source.is_archive:
        metrics.ROWS_FETCHED.add(
            rows, market=entry.partition.series.market, source=str(entry.source)
        )


def _decode(entry: RawEntry, bodies: list[bytes]) -> pl.DataFrame:
    kind = entry.partition.series.kind
    if entry.source.is_archive:
        file = archive_file(entry)
        csv = member(bodies[0], file.stem, max_bytes=file.max_csv_bytes)
        rows = decode_archive(kind, csv)
    else:
        rows = decode_pages(kind, bodies)
    return final_rows(rows, entry)


def final_rows(rows: pl.DataFrame, entry: RawEntry) -> pl.DataFrame:
    """Return the rows of the entry's span: others were not requested, or not final when fetched.

    BadAnswer where rows of REST open before the span or are out of order.
    """
    opened = rows[entry.partition.series.kind.time_column].dt.timestamp("ms")
    is_rest = not entry.source.is_archive and rows.height
    is_in_order = opened.is_sorted() and opened.n_unique() == rows.height
    if is_rest and (opened[0] < entry.span.start_ms or not is_in_order):
        raise BadAnswer(
            f"{entry.key}: rows out of order or before {entry.span}; it will be fetched again"
        )
    return rows.filter((opened >= entry.span.start_ms) & (opened < entry.span.end_ms))


def answers(loaded: Loaded) -> list[Answer]:
    """Return what the raw objects answer for in their partition."""
    found = list[Answer]()
    for entry, _ in loaded.frames:
        content = entry.content if entry.source.is_archive else ""
        span = entry.span.clip(entry.partition.span)
        found.append(Answer(span, entry.source, entry.asked_ms, entry.etag, content))
    return found


def archive_file(entry: RawEntry) -> ArchiveFile:
    """Return the archive file that a raw object is."""
    return ArchiveFile.of(entry.partition.series, entry.source, entry.span.start_ms)

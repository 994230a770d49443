"""Rewrites months of format 1 as partitions of this version's format, and proves them first.

Whatever happens in between, the lake reads as before: a year is complete once it is there, and the
months below it no longer count; a month counts, and the days below it do not, until it is deleted.
Doing it twice changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

import polars as pl

from klinefleet.tasks.migration.scope import MigrationPiece
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError, PartitionDamaged, ReadBackMismatch
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.partition_codec import read_back
from klinefleet.workers.lake.partitions import merge
from klinefleet.workers.services import Services
from klinefleet.workers.sources.memory_needs import bytes_to_rewrite

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Migrated:
    """What came of some pieces."""

    pieces: int = 0
    partitions: int = 0
    """Partitions of format 1 that were rewritten, or found rewritten."""
    written: int = 0
    """Partitions that hold their rows now."""
    rows: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)
    """Partitions that could not be read → where they are kept, and why. Their time is missing."""
    failed: dict[str, str] = field(default_factory=dict)
    """Pieces that could not be rewritten → why. They are as they were."""

    def add(self, other: Migrated) -> None:
        """Add the results of another piece."""
        self.pieces += other.pieces
        self.partitions += other.partitions
        self.written += other.written
        self.rows += other.rows
        self.set_aside |= other.set_aside
        self.failed |= other.failed

    def to_json(self, piece: str) -> str:
        """Return the results of a piece as JSON."""
        return json.dumps({**asdict(self), "piece": piece})

    @classmethod
    def from_json(cls, text: str) -> tuple[str, Migrated]:
        """Return the name of a piece, and its results."""
        fields = json.loads(text)
        piece = fields.pop("piece")
        return piece, cls(**fields)


@dataclass(frozen=True, slots=True)
class _Old:
    """A month of format 1, as it was read."""

    partition: Partition
    etag: str
    rows: pl.DataFrame
    footer: Footer


def migrate_piece(services: Services, piece: MigrationPiece) -> Migrated:
    """Rewrite a piece and return what came of it. A month that is gone was rewritten before.

    It begins once the memory that it needs is free; OverWeight where that did not come free.
    """
    done = Migrated(pieces=1)
    with services.memory_slots.reserved(bytes_to_rewrite(piece.partitions), f"migrate {piece}"):
        try:
            old = list(_read(services, piece, done))
            for target in _targets(old):
                _write(services, target, old, done)
            for one in old:
                _delete(services, one, done)
        except FleetError as error:
            logger.error("migrate %s: %s", piece, error.reason)
            done.failed[str(piece)] = error.reason
    return done


def _read(services: Services, piece: MigrationPiece, done: Migrated) -> Iterator[_Old]:
    """Yield the piece's months; those that do not decode are set aside."""
    for partition in piece.partitions:
        key = keys.partition(partition)
        etag = services.store.etag(key)
        body = services.store.read(key) if etag else None
        if body is None or etag is None:
            continue
        try:
            rows, footer = read_back(partition.series.kind, body, key)
        except PartitionDamaged as error:
            _set_aside(services, partition, error, done)
            continue
        if footer.partition != partition:
            yield _Old(partition, etag, rows, footer)
        else:
            done.partitions += 1


def _set_aside(
    services: Services, partition: Partition, error: PartitionDamaged, done: Migrated
) -> None:
    """Keep a partition that cannot be read under `damaged/`, and delete it."""
    key = keys.partition(partition)
    kept = services.partitions.set_aside(partition, services.store.read(key) or b"")
    services.store.delete([key])
    done.set_aside[key] = f"kept as {kept}: {error.reason}"


def _targets(old: list[_Old]) -> list[Partition]:
    """Return the partitions that hold the time of some months, oldest first."""
    found = dict.fromkeys(
        target
        for one in old
        for target in one.partition.series.partitions(one.partition.span)
        if spans.clip(one.footer.covered, target.span) or _within(one, target.span).height
    )
    return sorted(found)


def _write(services: Services, target: Partition, old: list[_Old], done: Migrated) -> None:
    """Publish a partition with its part of the months, and prove that it holds all of it."""
    kind, key = target.series.kind, keys.partition(target)
    rows = merge(kind, no_rows(kind), pl.concat(_within(one, target.span) for one in old))
    answers = [answer for one in old for answer in _answers(one, target.span)]
    try:
        services.partitions.merge(target, rows, answers)
    except PartitionDamaged as error:
        if any(one.partition == target for one in old):
            raise
        # A year or a day that an interrupted migration wrote, and that was damaged since.
        _set_aside(services, target, error, done)
        services.partitions.merge(target, rows, answers)
    held, footer = read_back(kind, services.partitions.body(target) or b"", key)
    times = rows.select(kind.time_column)
    same = held.join(times, on=kind.time_column, how="semi", maintain_order="left")
    uncovered = spans.without((answer.span for answer in answers), footer.covered)
    if not same.equals(rows) or uncovered or footer.partition != target:
        raise ReadBackMismatch(
            f"{key}: it does not hold the rows and the time of its months; they are as they were"
        )
    done.written += 1


def _delete(services: Services, one: _Old, done: Migrated) -> None:
    """Delete a month whose rows are in other partitions now, unless it was changed meanwhile."""
    done.partitions += 1
    done.rows += one.rows.height
    if one.partition.is_of_this_format:
        return
    key = keys.partition(one.partition)
    if services.store.etag(key) != one.etag:
        raise ReadBackMismatch(
            f"{key}: it was written while it was migrated, by a worker of an older version; it was "
            "left as it is: stop such workers, and migrate again"
        )
    services.store.delete([key])


def _within(one: _Old, span: Span) -> pl.DataFrame:
    """Return the rows of a month that open in the span."""
    opened = one.rows[one.partition.series.kind.time_column].dt.timestamp("ms")
    return one.rows.filter((opened >= span.start_ms) & (opened < span.end_ms))


def _answers(one: _Old, span: Span) -> Iterator[Answer]:
    """Yield what the month's answers say of the span."""
    for answer in one.footer.answers:
        part = answer.span.clip(span)
        if not part.is_empty:
            yield replace(answer, span=part)

"""Reads and replaces partitions: rows and footer are one object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged, ReadBackMismatch, VersionConflict
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.schema import no_rows, with_all_columns
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import Answer, origins
from klinefleet.workers.lake.footers.footer import Footer, parse_footer
from klinefleet.workers.lake.footers.oddities import Oddity
from klinefleet.workers.lake.partition_codec import decode, encode, read_back
from klinefleet.workers.storage.objects import ObjectStore, StoredObject

#: Others may publish the same partition while we merge; each round merges what they have published.
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge."""

    gained: int = 0
    """Rows that the partition has gained."""
    changed: int = 0
    """Rows that were held with other values."""
    published: tuple[StoredObject, Footer] | None = None
    """The version that was written, and its footer; None if nothing had to be written."""


class Partitions:
    """Reads and replaces partitions. To merge twice changes nothing; two at once lose nothing."""

    def __init__(self, files: ObjectStore) -> None:
        self._files = files

    def rows(self, partition: Partition) -> pl.DataFrame:
        """Return the rows that the partition holds; none where there is no such object."""
        key, kind = keys.partition(partition), partition.series.kind
        body = self._files.read(key)
        return with_all_columns(kind, decode(body, key)) if body else no_rows(kind)

    def body(self, partition: Partition) -> bytes | None:
        """Return the partition's bytes, None where there is none."""
        return self._files.read(keys.partition(partition))

    def merge(
        self,
        partition: Partition,
        rows: pl.DataFrame,
        answers: Iterable[Answer],
        *,
        oddities: Sequence[Oddity] = (),
        revises: bool = False,
    ) -> Merged:
        """Publish `rows`, which come from `answers`, into the partition.

        `oddities` are those rows with a faulty value that every source has. A row that is held
        already stays, unless it is such an oddity. If the answers are to revise the lake, it is
        replaced where they were asked for later than those it came from. ReadBackMismatch where the
        store does not give back what was written; the raw objects still hold the rows then.
        PartitionDamaged where the held rows are no longer those that were proved: a new proof must
        not bless them.
        """
        key, kind, answers = keys.partition(partition), partition.series.kind, list(answers)
        gained, changed, unsure = 0, 0, dict[bytes, Merged]()
        for _ in range(_ROUNDS):
            etag = self._files.etag(key)
            body = self._files.read(key) if etag else None
            held, footer = read_back(kind, body, key) if body else (no_rows(kind), Footer())
            newer = [oddity.span for oddity in footer.oddities]
            newer += _newer_than(footer, answers) if revises else []
            merged = _merged(kind, held, rows, spans.union(newer))
            footer = footer.sealed(partition, merged, answers, oddities)
            encoded = encode(merged, footer)
            if encoded == body:
                done = unsure.get(encoded, Merged())
                return Merged(gained + done.gained, changed + done.changed)
            if not decode(encoded).equals(merged):
                raise ReadBackMismatch(
                    f"{key}: encoded rows do not decode to themselves; nothing was published or "
                    "deleted"
                )
            # VersionConflict may also mean that an earlier try of this publish was stored and its
            # answer lost.
            is_apart = held.height + rows.height == merged.height
            changed_now = 0 if is_apart else _changed(kind, held, merged)
            unsure[encoded] = Merged(merged.height - held.height, changed_now)
            with suppress(VersionConflict):
                self._files.publish(key, encoded, replaces=etag if body else None)
                done = unsure.pop(encoded)
                gained, changed = gained + done.gained, changed + done.changed
                # Read back from the store. Where it differs, another has published on top of it:
                # look again. The version is asked for before: it is ours where what is read
                # afterwards is.
                version = self._files.etag(key)
                if self._files.read(key) == encoded:
                    return Merged(
                        gained, changed, (StoredObject(key, version or "", len(encoded)), footer)
                    )
        raise ReadBackMismatch(
            f"{key}: not read back as written in {_ROUNDS} rounds; the raw objects are kept"
        )

    def forget(self, partition: Partition, parts: Sequence[Span] | None = None) -> list[Span]:
        """Take `parts` of the time (None: all) and their rows out of the partition: they are
        missing then.

        Returns the time that was taken out: all of it where the rows are not to be trusted, the
        whole period where not even the footer tells what was covered. What was there is kept aside
        first, under `damaged/`.
        """
        key, gone = keys.partition(partition), list[Span]()
        for _ in range(_ROUNDS):
            etag = self._files.etag(key)
            body = self._files.read(key) if etag else None
            if body is None:
                return gone or (list(parts) if parts is not None else [partition.span])
            rows, footer, taken = _without(partition, body, parts)
            # What an earlier round took out is gone as well: it may have been stored and its answer
            # lost.
            gone = spans.union([*gone, *taken])
            encoded = encode(rows, footer.sealed(partition, rows))
            if encoded == body:
                return gone
            self.set_aside(partition, body)
            with suppress(VersionConflict):
                self._files.publish(key, encoded, replaces=etag)
                if self._files.read(key) == encoded:
                    return gone
        raise ReadBackMismatch(
            f"{key}: not read back as written in {_ROUNDS} rounds; what was there is kept under "
            "damaged/"
        )

    def set_aside(self, partition: Partition, body: bytes) -> str:
        """Keep a partition's bytes under `damaged/`, and return their key there."""
        key = keys.damaged(partition, hashlib.sha256(body).hexdigest()[:16])
        self._files.put(key, body)
        return key


def merge(kind: Kind, held: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of both, sorted by time, each once; the new one where both have it.

    A value that the new row lacks is taken from the held one, where a source may lack one.
    """
    both, time = pl.concat([held, new]) if held.height else new, kind.time_column
    moments = moments_of(kind, both)
    if both[time].is_sorted() and moments.n_unique() == both.height:
        return both
    if kind.is_complete_in_one_source:
        return both.unique(time, keep="last", maintain_order=True).sort(time)
    newest = [pl.col(name).drop_nulls().last() for name in both.columns]
    merged = both.with_columns(_moment=moments).group_by("_moment", maintain_order=True).agg(newest)
    return merged.drop("_moment").sort(time)


def _merged(
    kind: Kind, held: pl.DataFrame, new: pl.DataFrame, newer: Sequence[Span]
) -> pl.DataFrame:
    """Return the rows of both; where both have one the held one, in `newer` time the new one."""
    both = merge(kind, held, new)
    if both.height == held.height + new.height:
        return both
    if not newer:
        return merge(kind, new, held)
    times = pl.col(kind.time_column).dt.timestamp("ms")
    within = [times.is_between(span.start_ms, span.end_ms, closed="left") for span in newer]
    replacing = new.filter(pl.any_horizontal(within))
    others = new.filter(~pl.any_horizontal(within))
    return merge(kind, merge(kind, others, held), replacing)


def _newer_than(footer: Footer, answers: Sequence[Answer]) -> list[Span]:
    """Return the time in which all held answers were asked for before the latest of `answers`."""
    later = origins(answers)
    older = [
        held.span.clip(new.span)
        for held in footer.origins
        for new in later
        if held.asked_ms >= new.asked_ms
    ]
    return spans.without((new.span for new in later), older)


def moments_of(kind: Kind, rows: pl.DataFrame) -> pl.Series:
    """Return the times that tell rows apart: without the jitter that sources add."""
    times = rows[kind.time_column]
    return times.dt.truncate(f"{kind.jitter_ms}ms") if kind.jitter_ms else times


def _without(
    partition: Partition, body: bytes, parts: Sequence[Span] | None
) -> tuple[pl.DataFrame, Footer, list[Span]]:
    """Return a partition's rows and footer without some time, and that time."""
    kind = partition.series.kind
    nothing = no_rows(kind)
    try:
        footer = parse_footer(body, keys.partition(partition))
    except PartitionDamaged:
        return nothing, Footer(), [partition.span]
    try:
        rows = read_back(kind, body)[0]
    except PartitionDamaged:
        return nothing, Footer(), footer.covered or [partition.span]
    if parts is None:
        return nothing, Footer(), footer.covered or ([partition.span] if rows.height else [])
    times = rows[kind.time_column].dt.timestamp("ms")
    stays = pl.repeat(True, rows.height, eager=True)
    for part in parts:
        stays &= (times < part.start_ms) | (times >= part.end_ms)
    return merge(kind, nothing, rows.filter(stays)), footer.without(parts), list(parts)


def _changed(kind: Kind, held: pl.DataFrame, merged: pl.DataFrame) -> int:
    """Return how many held rows have other values now; a value for a null is no change."""
    before, after = (
        rows.select(*kind.disputed, moments_of(kind, rows).alias("_moment"))
        for rows in (held, merged)
    )
    return before.join(after, on=before.columns, how="anti").height

"""Reads and replaces monthly Parquet partitions: rows and footer are one object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged, ReadBackMismatch, VersionConflict
from klinefleet.workers.domain.intervals import month_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.schema import no_rows, with_all_columns
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footer import Footer, Origin, parse_footer
from klinefleet.workers.lake.partition_codec import decode, encode, read_back
from klinefleet.workers.lake.proof import prove
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

    def rows(self, series: Series, month: str) -> pl.DataFrame:
        """Return the rows that the month's partition holds; none where there is no partition."""
        key = keys.partition(series, month)
        body = self._files.read(key)
        return with_all_columns(series.kind, decode(body, key)) if body else no_rows(series.kind)

    def body(self, series: Series, month: str) -> bytes | None:
        """Return the bytes of the month's partition, None where there is none."""
        return self._files.read(keys.partition(series, month))

    def merge(
        self,
        series: Series,
        month: str,
        rows: pl.DataFrame,
        covered: Iterable[Span],
        origins: Iterable[Origin] = (),
    ) -> Merged:
        """Publish `rows` and what they cover into the month's partition.

        Where a row is held already the new one takes its place. ReadBackMismatch where the store
        does not give back what was written; the raw objects still hold the rows then.
        PartitionDamaged where the held rows are no longer those that were proved: a new proof must
        not bless them.
        """
        key, covered, origins = keys.partition(series, month), list(covered), list(origins)
        gained, changed, unsure = 0, 0, dict[bytes, Merged]()
        for _ in range(_ROUNDS):
            etag = self._files.etag(key)
            body = self._files.read(key) if etag else None
            held, footer = (
                read_back(series.kind, body, key) if body else (no_rows(series.kind), Footer())
            )
            merged = merge(series.kind, held, rows)
            footer = footer.joined(covered, origins)
            footer = replace(footer, proof=prove(series, merged, footer.covered))
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
            changed_now = 0 if is_apart else _changed(series.kind, held, merged)
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

    def forget(self, series: Series, month: str, parts: Sequence[Span] | None = None) -> list[Span]:
        """Take `parts` of the time (None: all) and their rows out of the month's partition: they
        are missing then.

        Returns the time that was taken out: all of it where the rows are not to be trusted, the
        whole month where not even the footer tells what was covered. What was there is kept aside
        first, under `damaged/`.
        """
        key, gone = keys.partition(series, month), list[Span]()
        for _ in range(_ROUNDS):
            etag = self._files.etag(key)
            body = self._files.read(key) if etag else None
            if body is None:
                return gone or (list(parts) if parts is not None else [month_span(month)])
            rows, footer, taken = _without(series, month, body, parts)
            # What an earlier round took out is gone as well: it may have been stored and its answer
            # lost.
            gone = spans.union([*gone, *taken])
            encoded = encode(rows, replace(footer, proof=prove(series, rows, footer.covered)))
            if encoded == body:
                return gone
            self._files.put(
                keys.damaged(series, month, hashlib.sha256(body).hexdigest()[:16]), body
            )
            with suppress(VersionConflict):
                self._files.publish(key, encoded, replaces=etag)
                if self._files.read(key) == encoded:
                    return gone
        raise ReadBackMismatch(
            f"{key}: not read back as written in {_ROUNDS} rounds; what was there is kept under "
            "damaged/"
        )


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


def moments_of(kind: Kind, rows: pl.DataFrame) -> pl.Series:
    """Return the times that tell rows apart: without the jitter that sources add."""
    times = rows[kind.time_column]
    return times.dt.truncate(f"{kind.jitter_ms}ms") if kind.jitter_ms else times


def _without(
    series: Series, month: str, body: bytes, parts: Sequence[Span] | None
) -> tuple[pl.DataFrame, Footer, list[Span]]:
    """Return a partition's rows and footer without some time, and that time."""
    nothing = no_rows(series.kind)
    try:
        footer = parse_footer(body)
    except PartitionDamaged:
        return nothing, Footer(), [month_span(month)]
    try:
        rows = read_back(series.kind, body)[0]
    except PartitionDamaged:
        return nothing, Footer(), spans.union(footer.covered) or [month_span(month)]
    if parts is None:
        return (
            nothing,
            Footer(),
            spans.union(footer.covered) or ([month_span(month)] if rows.height else []),
        )
    times = rows[series.kind.time_column].dt.timestamp("ms")
    stays = pl.repeat(True, rows.height, eager=True)
    for part in parts:
        stays &= (times < part.start_ms) | (times >= part.end_ms)
    rows = rows.filter(stays)
    covered = tuple(spans.without(footer.covered, parts))
    origins = tuple(
        replace(origin, span=gap)
        for origin in footer.origins
        for gap in spans.gaps(parts, origin.span)
    )
    return merge(series.kind, nothing, rows), Footer(covered, origins), list(parts)


def _changed(kind: Kind, held: pl.DataFrame, merged: pl.DataFrame) -> int:
    """Return how many held rows have other values now; a value for a null is no change."""
    before, after = (
        rows.select(*kind.disputed, moments_of(kind, rows).alias("_moment"))
        for rows in (held, merged)
    )
    return before.join(after, on=before.columns, how="anti").height

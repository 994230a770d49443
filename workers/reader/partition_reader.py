"""The rows of a series' partitions, each as one version of it: never half of an old file and half
of a new one.

Polars reads the files itself, only the columns and row groups that a query needs. It opens a file
more than once, and a bucket's object with several requests, so what compaction replaced meanwhile
is found by listing the folder again afterwards, and read again. What is replaced every time, or
does not decode, is read in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from klinefleet.workers.domain.intervals import month_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.schema import MOMENT, no_rows, schema_of, with_all_columns
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footer import Footer
from klinefleet.workers.lake.partition_codec import read_back
from klinefleet.workers.lake.proof import reconstruct_times
from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from klinefleet.workers.support.threads import Threads

#: Times that Polars reads partitions while others replace them, before each is read in one piece.
_TRIES = 3
#: Partitions that are read in one go, and their bytes: of a long series so much is in memory at
#: once.
TOGETHER, _TOGETHER_BYTES = 48, 32 * 2**20
#: Objects that are fetched at once.
_FETCHERS = 16

Query = Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, slots=True)
class PartitionSet:
    """The partitions of a series that a span touches, as they were listed, oldest first."""

    series: Series
    span: Span
    entries: tuple[StoredObject, ...]
    held: Span | None = None
    """Outside of which they have no rows, as far as is known."""
    footers: Mapping[str, Footer] = field(default_factory=dict)
    """What is known of them, by key."""

    def is_cut(self, entry: StoredObject) -> bool:
        """Return whether a partition may have rows outside the span."""
        rows = _bounds(entry)
        rows = rows.clip(self.held) if self.held else rows
        return rows.start_ms < self.span.start_ms or self.span.end_ms < rows.end_ms

    def within(self, span: Span) -> PartitionSet:
        """Return what of it lies in a span."""
        part = self.span.clip(span)
        touched = (entry for entry in self.entries if not _bounds(entry).clip(part).is_empty)
        return replace(self, span=part, entries=tuple(touched))

    def batches(self) -> Iterator[PartitionSet]:
        """Yield them some at a time, at least once, each with its part of the span."""
        batch: list[StoredObject] = []
        start_ms = self.span.start_ms
        for entry in self.entries:
            is_much = sum(held.size for held in batch) + entry.size > _TOGETHER_BYTES
            if batch and (is_much or len(batch) == TOGETHER):
                end_ms = _bounds(entry).start_ms
                yield replace(self, span=Span(start_ms, end_ms), entries=tuple(batch))
                batch, start_ms = [], end_ms
            batch.append(entry)
        yield replace(self, span=Span(start_ms, self.span.end_ms), entries=tuple(batch))


class PartitionReader:
    """Lists and reads partitions. StoreFault where the store fails, PartitionDamaged where one does
    not decode.
    """

    def __init__(self, files: ObjectStore, store: str, cache: ArrowCache | None) -> None:
        self._files = files
        self._store = store
        self._cache = cache

    def list(self, series: Series, span: Span) -> PartitionSet:
        """Return the partitions of a series that the span touches."""
        listed = [
            entry
            for entry in self._files.list(keys.series_folder("lake", series))
            if keys.month_of(entry.key)
        ]
        touched = (entry for entry in listed if not _bounds(entry).clip(span).is_empty)
        return PartitionSet(series, span, tuple(touched))

    def query(
        self, months: PartitionSet, query: Query, columns: Sequence[str] = ()
    ) -> pl.DataFrame:
        """Return what `query` makes of the rows in the span; of all of them, and of these columns,
        where it says so.
        """
        for _ in range(_TRIES):
            try:
                read = query(self._rows(months, columns)).collect()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                break
            now = self.list(months.series, months.span)
            if set(months.entries) <= set(now.entries):
                return read
            months = now
        now = self.list(months.series, months.span)
        whole = [self._whole(entry, months.series.kind) for entry in now.entries]
        rows = _concat(months.series.kind, whole).lazy()
        return query(_between(months.series.kind, rows, months.span)).collect()

    def rows(self, months: PartitionSet, columns: Sequence[str]) -> pl.DataFrame:
        """Return the rows in the span; by way of the cache, if there is one."""
        if self._cache is None:
            return self.query(months, lambda rows: rows.select(columns), columns)
        return self._kept(months, self._cache).select(columns)

    def is_cached(self, entry: StoredObject) -> bool:
        """Return whether the cache has this version of a partition."""
        return self._cache is not None and self._cache.has(self._store, entry)

    def _scan(self, months: PartitionSet) -> pl.LazyFrame:
        """Return the rows of the span, unread; from the cache what it has."""
        kind, parts, unread = months.series.kind, list[pl.LazyFrame](), list[str]()
        for entry in months.entries:
            kept = self._cached(kind, entry)
            if kept is None and not months.is_cut(entry):
                unread.append(self._files.address(entry.key))
                continue
            parts += [self._open(kind, unread)] if unread else []
            rows = (
                self._open(kind, [self._files.address(entry.key)]) if kept is None else kept.lazy()
            )
            parts.append(_between(kind, rows, months.span) if months.is_cut(entry) else rows)
            unread = []
        parts += [self._open(kind, unread)] if unread else []
        if not parts:
            return no_rows(kind).lazy()
        return parts[0] if len(parts) == 1 else pl.concat(parts)

    def _rows(self, months: PartitionSet, columns: Sequence[str]) -> pl.LazyFrame:
        told = self._with_told_times(months, columns)
        return self._scan(months) if told is None else told

    def _with_told_times(self, months: PartitionSet, columns: Sequence[str]) -> pl.LazyFrame | None:
        """Return columns of the rows, the time as the footers tell it: half of what two columns
        cost. Else None.
        """
        kind, entries = months.series.kind, months.entries
        time = kind.time_column
        others = [name for name in columns if name != time]
        if (
            not others
            or time not in columns
            or any(self.is_cached(e) or months.is_cut(e) for e in entries)
        ):
            return None
        footers = [months.footers.get(entry.key, Footer()) for entry in entries]
        told = [
            reconstruct_times(months.series, footer.covered, footer.proof) for footer in footers
        ]
        times = [found for found in told if found is not None]
        if not times or len(times) < len(told):
            return None
        rows = (
            self._open(kind, [self._files.address(entry.key) for entry in entries])
            .select(others)
            .collect()
        )
        times_of_all = pl.concat(times)
        return rows.with_columns(times_of_all).lazy() if times_of_all.len() == rows.height else None

    def _open(self, kind: Kind, addresses: Sequence[str]) -> pl.LazyFrame:
        # With a schema, Polars need not open a file before it knows what is wanted of it. What an
        # older partition lacks is null.
        return pl.scan_parquet(
            list(addresses),
            schema=schema_of(kind),
            missing_columns="insert",
            glob=False,
            hive_partitioning=False,
            storage_options=self._files.polars_options(),
        )

    def _kept(self, months: PartitionSet, cache: ArrowCache) -> pl.DataFrame:
        """Return the rows of the span from the cache, which has all of them afterwards."""
        kind = months.series.kind
        found = {entry: self._cached(kind, entry) for entry in months.entries}
        unknown = [entry for entry, rows in found.items() if rows is None]
        if unknown:
            with Threads(_FETCHERS, thread_name_prefix="partition") as fetchers:
                read = dict(
                    zip(
                        unknown,
                        fetchers.map(lambda entry: self._whole(entry, kind), unknown),
                        strict=True,
                    )
                )
            # What was replaced between the listing and the reading must not be kept as the old
            # version.
            still = set(self.list(months.series, months.span).entries)
            found |= {
                e: cache.put(self._store, e, rows) if e in still else rows
                for e, rows in read.items()
            }
            cache.make_room()
        kept = [(entry, rows) for entry, rows in found.items() if rows is not None]
        return _concat(
            kind,
            [
                _cut(kind, rows, months.span) if months.is_cut(entry) else rows
                for entry, rows in kept
            ],
        )

    def _cached(self, kind: Kind, entry: StoredObject) -> pl.DataFrame | None:
        """Return a partition's rows from the cache; None where it does not have them."""
        rows = self._cache.get(self._store, entry) if self._cache else None
        return None if rows is None else with_all_columns(kind, rows)

    def _whole(self, entry: StoredObject, kind: Kind) -> pl.DataFrame:
        """Return a partition's rows, read in one piece and proved; none where it has just gone."""
        body = self._files.read(entry.key)
        if body is None:
            return no_rows(kind)
        return read_back(kind, body, entry.key)[0]


def _concat(kind: Kind, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts, rechunk=False) if parts else no_rows(kind)


def _between(kind: Kind, rows: pl.LazyFrame, span: Span) -> pl.LazyFrame:
    """Return the rows of the span."""
    time = pl.col(kind.time_column)
    return rows.filter((time >= _moment(span.start_ms)) & (time < _moment(span.end_ms)))


def _cut(kind: Kind, rows: pl.DataFrame, span: Span) -> pl.DataFrame:
    """Return the rows of the span, without copying any."""
    times = rows[kind.time_column].to_physical()
    first, last = times.search_sorted(span.start_ms), times.search_sorted(span.end_ms)
    return rows.slice(first, last - first)


def _moment(ms: int) -> pl.Expr:
    return pl.lit(ms, dtype=pl.Int64).cast(MOMENT)


def _bounds(entry: StoredObject) -> Span:
    """Return the month that a partition is of."""
    return month_span(keys.month_of(entry.key) or "")

"""The rows of a series' partitions; never a mixture of an old and a new version of one.

Polars reads the files itself, and only the columns and row groups that a query needs. It opens a
file more than once, and reads an object of a bucket with several requests. So after each query the
folder is listed again. If compaction has replaced a partition meanwhile, the query is repeated.
Partitions that are replaced every time, or that Polars cannot read, are read as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from klinefleet.workers.domain.intervals import period_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.schema import MOMENT, no_rows, schema_of, with_all_columns
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.footers.proof import reconstruct_times
from klinefleet.workers.lake.partition_codec import read_back
from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from klinefleet.workers.support.threads import Threads

#: Queries by Polars that may meet replaced partitions, before these are read as a whole.
_MAX_SCANS = 3
#: Partitions in a batch, and their bytes: of a long series one batch is in memory at a time.
MAX_BATCH_PARTITIONS, _MAX_BATCH_BYTES = 48, 32 * 2**20
_FETCH_THREADS = 16

#: A query on the rows of some partitions.
Transform = Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, slots=True)
class PartitionSet:
    """The partitions of a series that overlap a span, as listed, oldest first."""

    series: Series
    span: Span
    entries: tuple[StoredObject, ...]
    row_bounds: Span | None = None
    """The partitions have no rows outside of it; None if unknown."""
    footers: Mapping[str, Footer] = field(default_factory=dict)
    """The footers that are known, by key."""

    def may_exceed_span(self, entry: StoredObject) -> bool:
        """Return whether a partition may have rows outside the span."""
        rows = _partition_span(entry)
        rows = rows.clip(self.row_bounds) if self.row_bounds else rows
        return rows.start_ms < self.span.start_ms or self.span.end_ms < rows.end_ms

    def clip(self, span: Span) -> PartitionSet:
        """Return the part that lies within `span`."""
        part = self.span.clip(span)
        overlapping = (e for e in self.entries if not _partition_span(e).clip(part).is_empty)
        return replace(self, span=part, entries=tuple(overlapping))

    def batches(self) -> Iterator[PartitionSet]:
        """Yield consecutive batches that together are this set, at least one."""
        batch: list[StoredObject] = []
        start_ms = self.span.start_ms
        for entry in self.entries:
            is_too_large = sum(other.size for other in batch) + entry.size > _MAX_BATCH_BYTES
            if batch and (is_too_large or len(batch) == MAX_BATCH_PARTITIONS):
                end_ms = _partition_span(entry).start_ms
                yield replace(self, span=Span(start_ms, end_ms), entries=tuple(batch))
                batch, start_ms = [], end_ms
            batch.append(entry)
        yield replace(self, span=Span(start_ms, self.span.end_ms), entries=tuple(batch))


class PartitionReader:
    """Lists and reads partitions.

    StoreFault if the store fails, PartitionDamaged if a partition does not decode.
    """

    def __init__(self, files: ObjectStore, store: str, cache: ArrowCache | None) -> None:
        self._files = files
        self._store = store
        self._cache = cache

    def list(self, series: Series, span: Span) -> PartitionSet:
        """Return the partitions of a series that overlap a span."""
        listed = keys.partitions_in(self._files.list(keys.series_folder("lake", series)))
        overlapping = (entry for entry in listed if not _partition_span(entry).clip(span).is_empty)
        return PartitionSet(series, span, tuple(overlapping))

    def query(
        self, partitions: PartitionSet, transform: Transform, columns: Sequence[str] = ()
    ) -> pl.DataFrame:
        """Return the result of `transform` on the rows in the span.

        If `transform` only selects columns and keeps all rows, `columns` names them: their time may
        then be computed from the footers instead of read.
        """
        series, span = partitions.series, partitions.span
        for _ in range(_MAX_SCANS):
            try:
                result = transform(self._lazy_rows(partitions, columns)).collect()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                break
            listed_again = self.list(series, span)
            if set(partitions.entries) <= set(listed_again.entries):
                return result
            partitions = listed_again
        frames = [self._read_whole(e, series.kind) for e in self.list(series, span).entries]
        rows = _concat(series.kind, frames).lazy()
        return transform(_filter_span(series.kind, rows, span)).collect()

    def rows(self, partitions: PartitionSet, columns: Sequence[str]) -> pl.DataFrame:
        """Return these columns of the rows in the span, through the cache if there is one."""
        if self._cache is None:
            return self.query(partitions, lambda rows: rows.select(columns), columns)
        return self._rows_through_cache(partitions, self._cache).select(columns)

    def is_cached(self, entry: StoredObject) -> bool:
        """Return whether the cache has this version of a partition."""
        return self._cache is not None and self._cache.has(self._store, entry)

    def _lazy_rows(self, partitions: PartitionSet, columns: Sequence[str]) -> pl.LazyFrame:
        rows = self._rows_with_computed_times(partitions, columns)
        return self._scan(partitions) if rows is None else rows

    def _scan(self, partitions: PartitionSet) -> pl.LazyFrame:
        """Return the rows in the span, unread; cached partitions come from the cache.

        Adjacent files that need no filter are scanned together.
        """
        kind = partitions.series.kind
        frames: list[pl.LazyFrame] = []
        addresses: list[str] = []
        for entry in partitions.entries:
            cached = self._cached_rows(kind, entry)
            may_exceed_span = partitions.may_exceed_span(entry)
            address = self._files.address(entry.key)
            if cached is None and not may_exceed_span:
                addresses.append(address)
                continue
            frames += [self._scan_files(kind, addresses)] if addresses else []
            addresses = []
            rows = self._scan_files(kind, [address]) if cached is None else cached.lazy()
            frames.append(_filter_span(kind, rows, partitions.span) if may_exceed_span else rows)
        frames += [self._scan_files(kind, addresses)] if addresses else []
        if not frames:
            return no_rows(kind).lazy()
        return frames[0] if len(frames) == 1 else pl.concat(frames)

    def _rows_with_computed_times(
        self, partitions: PartitionSet, columns: Sequence[str]
    ) -> pl.LazyFrame | None:
        """Return all rows with times computed from the footers; None where that is not possible.

        Of two columns, one of them the time, it saves half the reading.
        """
        kind, entries = partitions.series.kind, partitions.entries
        others = [name for name in columns if name != kind.time_column]
        if not others or kind.time_column not in columns:
            return None
        if any(self.is_cached(e) or partitions.may_exceed_span(e) for e in entries):
            return None
        times = _times_from_footers(partitions)
        if times is None:
            return None
        addresses = [self._files.address(entry.key) for entry in entries]
        rows = self._scan_files(kind, addresses).select(others).collect()
        return rows.with_columns(times).lazy() if times.len() == rows.height else None

    def _scan_files(self, kind: Kind, addresses: Sequence[str]) -> pl.LazyFrame:
        # With the schema given, Polars opens no file before the query runs. Columns that an older
        # partition lacks are null.
        return pl.scan_parquet(
            list(addresses),
            schema=schema_of(kind),
            missing_columns="insert",
            glob=False,
            hive_partitioning=False,
            storage_options=self._files.polars_options(),
        )

    def _rows_through_cache(self, partitions: PartitionSet, cache: ArrowCache) -> pl.DataFrame:
        """Return the rows in the span from the cache, after what it lacked was fetched into it."""
        kind = partitions.series.kind
        frames = {entry: self._cached_rows(kind, entry) for entry in partitions.entries}
        missing = [entry for entry, rows in frames.items() if rows is None]
        if missing:
            fetched = self._fetch(kind, missing)
            # Do not cache what was replaced between listing and reading: the ETag is the old one.
            current = set(self.list(partitions.series, partitions.span).entries)
            frames |= {
                entry: cache.put(self._store, entry, rows) if entry in current else rows
                for entry, rows in fetched.items()
            }
            cache.make_room()
        return _concat(
            kind,
            [
                _slice_span(kind, rows, partitions.span)
                if partitions.may_exceed_span(entry)
                else rows
                for entry, rows in frames.items()
                if rows is not None
            ],
        )

    def _fetch(
        self, kind: Kind, entries: Sequence[StoredObject]
    ) -> dict[StoredObject, pl.DataFrame]:
        with Threads(_FETCH_THREADS, thread_name_prefix="partition") as threads:
            frames = threads.map(lambda entry: self._read_whole(entry, kind), entries)
            return dict(zip(entries, frames, strict=True))

    def _cached_rows(self, kind: Kind, entry: StoredObject) -> pl.DataFrame | None:
        """Return a partition's rows from the cache; None on a cache miss."""
        rows = self._cache.get(self._store, entry) if self._cache else None
        return None if rows is None else with_all_columns(kind, rows)

    def _read_whole(self, entry: StoredObject, kind: Kind) -> pl.DataFrame:
        """Return a partition's rows, read as a whole and verified; no rows if it was deleted."""
        body = self._files.read(entry.key)
        if body is None:
            return no_rows(kind)
        return read_back(kind, body, entry.key)[0]


def _times_from_footers(partitions: PartitionSet) -> pl.Series | None:
    """Return the times of all rows as the footers give them; None if one of them does not."""
    times = []
    for entry in partitions.entries:
        footer = partitions.footers.get(entry.key, Footer())
        part = reconstruct_times(partitions.series, footer.covered, footer.proof)
        if part is None:
            return None
        times.append(part)
    return pl.concat(times) if times else None


def _concat(kind: Kind, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, rechunk=False) if frames else no_rows(kind)


def _filter_span(kind: Kind, rows: pl.LazyFrame, span: Span) -> pl.LazyFrame:
    """Return the rows in the span."""
    time = pl.col(kind.time_column)
    return rows.filter((time >= _time_literal(span.start_ms)) & (time < _time_literal(span.end_ms)))


def _slice_span(kind: Kind, rows: pl.DataFrame, span: Span) -> pl.DataFrame:
    """Return the rows in the span, without copying."""
    times = rows[kind.time_column].to_physical()
    first, end = times.search_sorted(span.start_ms), times.search_sorted(span.end_ms)
    return rows.slice(first, end - first)


def _time_literal(ms: int) -> pl.Expr:
    return pl.lit(ms, dtype=pl.Int64).cast(MOMENT)


def _partition_span(entry: StoredObject) -> Span:
    """Return the period of a partition."""
    return period_span(keys.period_of(entry.key) or "")

"""The rows of a series' partitions, each as one version of it: never half of an old file and half of a new one.

Polars reads the files itself, only the columns and row groups that a query needs. It opens a file more than once, and a
bucket's object with several requests, so what compaction replaced meanwhile is found by listing the folder again
afterwards, and read again. What is replaced every time, or does not decode, is read in one piece.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from workers.errors import PartitionDamaged
from workers.lake import keys
from workers.lake.cache import ArrowCache
from workers.lake.files import Entry, Files
from workers.lake.parquet import decode
from workers.model import Block, Kind, Series, Span
from workers.schema import MOMENT, SCHEMAS, time_column
from workers.threads import Threads

#: Times that Polars reads partitions while others replace them, before each is read in one piece.
_TRIES = 3
#: Partitions that are read in one go: so much of a long series is in memory at once, before it is compressed.
_TOGETHER, _TOGETHER_BYTES = 48, 64 * 2**20
#: Objects that are fetched at once.
_FETCHERS = 16

Query = Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, slots=True)
class Months:
    """The partitions of a series that a span touches, as they were listed, oldest first."""

    series: Series
    span: Span
    entries: tuple[Entry, ...]

    def within(self, span: Span) -> Months:
        """Return what of it lies in a span."""
        part = self.span.clip(span)
        touched = (entry for entry in self.entries if not _bounds(self.series, entry).clip(part).is_empty)
        return Months(self.series, part, tuple(touched))

    def batches(self) -> Iterator[Months]:
        """Yield them some at a time, each with its part of the span."""
        batch: list[Entry] = []
        start_ms = self.span.start_ms
        for entry in self.entries:
            is_much = sum(held.size for held in batch) + entry.size > _TOGETHER_BYTES
            if batch and (is_much or len(batch) == _TOGETHER):
                end_ms = _bounds(self.series, entry).start_ms
                yield Months(self.series, Span(start_ms, end_ms), tuple(batch))
                batch, start_ms = [], end_ms
            batch.append(entry)
        if batch:
            yield Months(self.series, Span(start_ms, self.span.end_ms), tuple(batch))


class MonthReader:
    """Lists and reads partitions. StoreFault where the store fails, PartitionDamaged where one does not decode."""

    def __init__(self, files: Files, store: str, cache: ArrowCache | None) -> None:
        self._files = files
        self._store = store
        self._cache = cache

    def list(self, series: Series, span: Span) -> Months:
        """Return the partitions of a series that the span touches."""
        listed = [entry for entry in self._files.list(keys.series_folder("lake", series)) if keys.month_of(entry.key)]
        touched = (entry for entry in listed if not _bounds(series, entry).clip(span).is_empty)
        return Months(series, span, tuple(touched))

    def query(self, months: Months, query: Query) -> Iterator[pl.DataFrame]:
        """Yield what `query` makes of the rows in the span, some partitions at a time."""
        for batch in months.batches():
            yield self._queried(batch, query)

    def rows(self, months: Months, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the rows in the span, some partitions at a time; by way of the cache, if there is one."""
        if self._cache is None:
            yield from self.query(months, lambda rows: rows.select(columns))
        else:
            for batch in months.batches():
                yield self._kept(batch, self._cache).select(columns)

    def is_cached(self, entry: Entry) -> bool:
        """Return whether the cache has this version of a partition."""
        return self._cache is not None and self._cache.has(self._store, entry)

    def _queried(self, months: Months, query: Query) -> pl.DataFrame:
        for _ in range(_TRIES):
            try:
                read = query(self._scan(months)).collect()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
                break
            now = self.list(months.series, months.span)
            if set(months.entries) <= set(now.entries):
                return read
            months = now
        now = self.list(months.series, months.span)
        whole = [self._whole(entry, months.series.kind) for entry in now.entries]
        return query(self._within(now, _concat(months.series.kind, whole).lazy())).collect()

    def _scan(self, months: Months) -> pl.LazyFrame:
        """Return the rows of the span, unread; from the cache what it has."""
        parts: list[pl.LazyFrame] = []
        unread: list[str] = []
        for entry in months.entries:
            kept = self._cache.get(self._store, entry) if self._cache else None
            if kept is None:
                unread.append(self._files.address(entry.key))
            else:
                parts += [self._open(unread)] if unread else []
                parts.append(kept.lazy())
                unread = []
        parts += [self._open(unread)] if unread else []
        if not parts:
            return SCHEMAS[months.series.kind].to_frame().lazy()
        return self._within(months, parts[0] if len(parts) == 1 else pl.concat(parts))

    def _open(self, addresses: Sequence[str]) -> pl.LazyFrame:
        return pl.scan_parquet(list(addresses), glob=False, hive_partitioning=False, storage_options=self._options)

    def _within(self, months: Months, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows of the span; no row is looked at where the partitions hold no others."""
        span, time = months.span, pl.col(time_column(months.series.kind))
        if months.entries and span.start_ms > _bounds(months.series, months.entries[0]).start_ms:
            rows = rows.filter(time >= _moment(span.start_ms))
        if months.entries and span.end_ms < _bounds(months.series, months.entries[-1]).end_ms:
            rows = rows.filter(time < _moment(span.end_ms))
        return rows

    def _kept(self, months: Months, cache: ArrowCache) -> pl.DataFrame:
        """Return the rows of the span from the cache, which has all of them afterwards."""
        kind = months.series.kind
        found = {entry: cache.get(self._store, entry) for entry in months.entries}
        unknown = [entry for entry, rows in found.items() if rows is None]
        if unknown:
            with Threads(_FETCHERS, thread_name_prefix="partition") as fetchers:
                read = dict(zip(unknown, fetchers.map(lambda entry: self._whole(entry, kind), unknown), strict=True))
            # What was replaced between the listing and the reading must not be kept as the old version.
            still = set(self.list(months.series, months.span).entries)
            found |= {e: cache.keep(self._store, e, rows) if e in still else rows for e, rows in read.items()}
            cache.make_room()
        rows = [rows for rows in found.values() if rows is not None]
        return _concat(kind, [_cut(kind, part, months.span) for part in rows])

    def _whole(self, entry: Entry, kind: Kind) -> pl.DataFrame:
        """Return a partition's rows, read in one piece; none where it has just gone."""
        body = self._files.read(entry.key)
        if body is None:
            return SCHEMAS[kind].to_frame()
        try:
            rows = decode(body)
        except PartitionDamaged as error:
            raise PartitionDamaged(f"{entry.key}: {error}") from error
        if rows.schema != SCHEMAS[kind]:
            raise PartitionDamaged(f"{entry.key}: its columns are {dict(rows.schema)}; it was left as it is")
        return rows

    @cached_property
    def _options(self) -> dict[str, str] | None:
        """What Polars has to know of the bucket's server, beside the AWS_* variables that it reads itself."""
        if not self._store.startswith("s3://"):
            return None
        url = os.environ.get("AWS_ENDPOINT_URL", "")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        told = {"aws_region": region} | ({"aws_endpoint_url": url} if url else {})
        return told | ({"aws_allow_http": "true"} if url.startswith("http://") else {})


def _concat(kind: Kind, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts, rechunk=False) if parts else SCHEMAS[kind].to_frame()


def _cut(kind: Kind, rows: pl.DataFrame, span: Span) -> pl.DataFrame:
    """Return the rows of the span, without copying any."""
    times = rows[time_column(kind)].to_physical()
    first, last = times.search_sorted(span.start_ms), times.search_sorted(span.end_ms)
    return rows.slice(first, last - first)


def _moment(ms: int) -> pl.Expr:
    return pl.lit(ms, dtype=pl.Int64).cast(MOMENT)


def _bounds(series: Series, entry: Entry) -> Span:
    """Return the month that a partition is of."""
    return Block(series, keys.month_of(entry.key) or "").span

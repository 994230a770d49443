"""The memory that work on one partition needs at most, known before it begins.

Measured with `make bench ONLY=compaction_memory`: rows are decoded, merged with those of the lake,
encoded, and compared with what was encoded.
"""

from __future__ import annotations

from collections.abc import Iterable

from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS
from klinefleet.workers.lake.raw_zone import RawEntry

#: Bytes for any work; for each row that a raw object decodes to, even if it is of another day; for
#: each row of the partition; for each row that one more source has.
_FIXED_BYTES, _DECODED_BYTES, _ROW_BYTES, _REPEATED_BYTES = 40 << 20, 240, 800, 1_000
#: Bytes for each row of an archive file that is downloaded: twice those of its zip.
_ZIPPED_ROW_BYTES = 100


def bytes_to_compact(partition: Partition, entries: Iterable[RawEntry]) -> int:
    """Return the most bytes that a compaction of these raw objects needs.

    Of an archive file all rows are decoded: a day of 1s candles may come from a file of its month.
    """
    series, entries = partition.series, list(entries)
    decoded = sum(_rows(series, _decoded(series, entry)) for entry in entries)
    rows = _rows(series, partition.span)
    repeated = sum(_rows(series, entry.span) for entry in entries) - rows
    return (
        _FIXED_BYTES
        + decoded * _DECODED_BYTES
        + rows * _ROW_BYTES
        + max(0, repeated) * _REPEATED_BYTES
    )


def bytes_to_rewrite(partitions: Iterable[Partition]) -> int:
    """Return the most bytes for the rows of partitions that are read and written anew together."""
    return _FIXED_BYTES + sum(_rows(one.series, one.span) for one in partitions) * _DECODED_BYTES


def bytes_to_download(file: ArchiveFile) -> int:
    """Return the most bytes for an archive file on its way into the store."""
    return _rows(file.series, file.span) * _ZIPPED_ROW_BYTES


def _decoded(series: Series, entry: RawEntry) -> Span:
    if not entry.source.is_archive:
        return entry.span
    return ArchiveFile.of(series, entry.source, entry.span.start_ms).span


def _rows(series: Series, span: Span) -> int:
    """Return the most rows that a span may have; events come at most once an hour."""
    interval = series.interval
    step_ms = interval.step_ms if interval.is_grid else HOUR_MS
    return -(-(span.end_ms - span.start_ms) // step_ms)

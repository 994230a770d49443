"""Monthly Parquet partitions: rows and their coverage in one object, replaced as a whole and proved."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import suppress

import polars as pl

from workers import spans
from workers.errors import PartitionDamaged, Unproved
from workers.lake import keys
from workers.lake.coverage import COVERAGE_KEY, coverage_of, covered_in
from workers.lake.files import Changed, Files
from workers.model import Series, Span
from workers.schema import SCHEMAS

#: Rows of a row group: a month of 1m candles is one, a month of 1s candles a few dozen.
ROW_GROUP_ROWS = 131_072

#: Others may publish the same partition while we merge; each round merges what they have published.
_ROUNDS = 20


class Partitions:
    """Reads and replaces partitions. Twice equals once, and two at once lose nothing."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def covered(self, series: Series) -> list[Span]:
        """Return the time for which the lake holds every candle that exists, oldest first."""
        listed = self._files.list(keys.series_folder("lake", series))
        return spans.union(span for entry in listed if keys.month_of(entry.key) for span in self._covered(entry.key))

    def merge(self, series: Series, month: str, rows: pl.DataFrame, covered: Iterable[Span]) -> int:
        """Publish `rows` and what they cover into the month's partition; returns how many rows it has gained.

        Where a candle is held already the new one takes its place. Unproved where the store does not
        give back what was written; the raw objects still hold the rows then.
        """
        key, covered = keys.partition(series, month), list(covered)
        gained, unsure = 0, dict[bytes, int]()
        for _ in range(_ROUNDS):
            etag = self._files.etag(key)
            body = self._files.read(key) if etag else None
            held = decode(body) if body else SCHEMAS[series.kind].to_frame()
            merged = merge(held, rows)
            encoded = encode(merged, spans.union([*(covered_in(body) if body else []), *covered]))
            if encoded == body:
                return gained + unsure.get(encoded, 0)
            if not decode(encoded).equals(merged):
                raise Unproved(f"{key}: encoded rows do not decode to themselves; nothing was published or deleted")
            # Changed may also mean that an earlier try of this publish was stored and its answer lost.
            unsure[encoded] = merged.height - held.height
            with suppress(Changed):
                self._files.publish(key, encoded, replaces=etag if body else None)
                gained += unsure.pop(encoded)
                # Read back from the store. Where it differs, another has published on top of it: look again.
                if self._files.read(key) == encoded:
                    return gained
        raise Unproved(f"{key}: not read back as written in {_ROUNDS} rounds; the raw objects are kept")

    def _covered(self, key: str) -> list[Span]:
        return coverage_of(lambda size: self._files.tail(key, size), key)


def merge(held: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return the candles of both, sorted by open time, each once; the new one where both have it."""
    both = pl.concat([held, new]) if held.height else new
    opened = both["open_time"]
    if opened.is_sorted() and opened.n_unique() == both.height:
        return both
    return both.unique("open_time", keep="last", maintain_order=True).sort("open_time")


def encode(rows: pl.DataFrame, covered: Iterable[Span]) -> bytes:
    """Return a partition's bytes: the same rows and coverage give the same bytes."""
    buffer = io.BytesIO()
    rows.rechunk().write_parquet(
        buffer,
        compression="zstd",
        statistics=True,
        row_group_size=ROW_GROUP_ROWS,
        metadata={COVERAGE_KEY: json.dumps([[span.start_ms, span.end_ms] for span in covered])},
    )
    return buffer.getvalue()


def decode(body: bytes) -> pl.DataFrame:
    """Return a partition's rows; PartitionDamaged where they do not decode."""
    try:
        return pl.read_parquet(body)
    except pl.exceptions.PolarsError as error:
        raise PartitionDamaged(f"a partition does not decode: {error}; it was left as it is") from error

"""Bytes to frames, in bulk: pages of REST, whose JSON is read as CSV, and the CSV files of the
archive.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

import polars as pl

from klinefleet.workers.domain.errors import ArchiveConflict, ArchiveDamaged, BadAnswer
from klinefleet.workers.domain.schema import SCHEMAS, time_column
from klinefleet.workers.domain.series import Kind

#: A candle's columns on the wire, REST and archive alike; moments are whole numbers, the last
#: column means nothing.
_CANDLE = pl.Schema(
    {
        **{
            name: pl.Int64() if dtype.is_temporal() else dtype
            for name, dtype in SCHEMAS[Kind.KLINES].items()
        },
        "ignore": pl.String(),
    }
)
_EVENT = pl.Schema(
    {
        "calc_time": pl.Int64(),
        "funding_interval_hours": pl.Int64(),
        "last_funding_rate": pl.Float64(),
    }
)
_UNQUOTED = b'"[]'
#: Moments above this are microseconds (spot archives from 2025 on), below it milliseconds.
_MOST_MS = 100_000_000_000_000


def decode_pages(kind: Kind, bodies: Iterable[bytes]) -> pl.DataFrame:
    """Return the rows of REST pages in the lake's columns, in the order they came.

    BadAnswer where a value does not parse or a row lacks one. The bodies have passed
    `pages.inspect`.
    """
    if kind is Kind.FUNDING:
        return _events(bodies)
    lines = b"\n".join(body.replace(b"],[", b"\n") for body in bodies if body != b"[]").translate(
        None, _UNQUOTED
    )
    if not lines:
        return SCHEMAS[kind].to_frame()
    try:
        frame = _read(lines, _CANDLE)
    except pl.exceptions.PolarsError as error:
        raise BadAnswer(f"rows that are no klines: {error}; nothing was merged") from error
    frame = frame.select(SCHEMAS[kind].names()).cast(SCHEMAS[kind])
    if frame.null_count().sum_horizontal().item() or not _is_finite(frame):
        raise BadAnswer("rows of klines that lack a value; nothing was merged")
    return frame


def decode_archive(kind: Kind, csv: bytes) -> pl.DataFrame:
    """Return the rows of an archive's CSV, gzipped or not, in the lake's columns, sorted, each
    once.

    With or without a header line, each row's moments in ms or µs by their magnitude. ArchiveDamaged
    where a line does not decode or lacks a value; ArchiveConflict where two different rows have one
    time.
    """
    wire = _EVENT if kind is Kind.FUNDING else _CANDLE
    try:
        has_header = _first_bytes(csv)[:1].isalpha()
        frame = _read(csv, wire, skip_rows=int(has_header))
    except pl.exceptions.NoDataError:
        return SCHEMAS[kind].to_frame()
    except (pl.exceptions.PolarsError, OSError, zlib.error) as error:
        raise ArchiveDamaged(f"lines that are no {kind}: {error}; nothing was merged") from error
    moments = [name for name, dtype in SCHEMAS[kind].items() if dtype.is_temporal()]
    in_ms = [
        pl.when(pl.col(name) > _MOST_MS)
        .then(pl.col(name) // 1000)
        .otherwise(pl.col(name))
        .alias(name)
        for name in moments
    ]
    frame = frame.with_columns(in_ms)
    if kind is Kind.FUNDING:
        frame = frame.with_columns(mark_price=pl.lit(None, pl.Float64))
    told = [name for name in wire.names() if name in SCHEMAS[kind]]
    frame = frame.select(SCHEMAS[kind].names()).cast(SCHEMAS[kind])
    if frame.select(told).null_count().sum_horizontal().item() or not _is_finite(frame):
        raise ArchiveDamaged(f"of {frame.height:,} rows some lack a value; nothing was merged")
    return _once(kind, frame)


def _is_finite(frame: pl.DataFrame) -> bool:
    """Return whether every number is one: `nan` and `inf` are numbers to a CSV reader, and no
    prices.
    """
    return all(
        frame[name].is_finite().all() for name, dtype in frame.schema.items() if dtype.is_float()
    )


def _once(kind: Kind, frame: pl.DataFrame) -> pl.DataFrame:
    time = time_column(kind)
    if not frame[time].is_sorted():
        frame = frame.sort(time)
    if frame[time].n_unique() == frame.height:
        return frame
    frame = frame.unique(maintain_order=True)
    if frame[time].n_unique() < frame.height:
        twice = frame.filter(pl.col(time).is_duplicated()).head(2)
        raise ArchiveConflict(f"two rows of one time: {twice.rows()}; nothing was merged")
    return frame


def _read(lines: bytes, wire: pl.Schema, skip_rows: int = 0) -> pl.DataFrame:
    return pl.read_csv(lines, has_header=False, schema=wire, quote_char=None, skip_rows=skip_rows)


def _first_bytes(csv: bytes) -> bytes:
    """Return how a CSV begins, gzipped or not."""
    is_gzip = csv.startswith(b"\x1f\x8b")
    return (
        zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(csv, 16) if is_gzip else csv[:16]
    )


def _events(bodies: Iterable[bytes]) -> pl.DataFrame:
    """Return funding events, sorted; a mark price that the exchange did not tell is null."""
    try:
        told: list[dict[str, Any]] = [event for body in bodies for event in json.loads(body)]
        rows = [
            (
                event["fundingTime"],
                None,
                float(event["fundingRate"]),
                float(event.get("markPrice") or "nan"),
            )
            for event in told
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer(f"events that are no funding: {error!r}; nothing was merged") from error
    schema = {
        name: pl.Int64() if dtype.is_temporal() else dtype
        for name, dtype in SCHEMAS[Kind.FUNDING].items()
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.col("mark_price").fill_nan(None)
    )
    return frame.cast(SCHEMAS[Kind.FUNDING]).unique(maintain_order=True).sort("calc_time")

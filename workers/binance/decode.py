"""Decodes REST pages (whose JSON is read as CSV) and the archive's CSV files into frames."""

from __future__ import annotations

import gzip
import io
import json
import logging
import zlib
from collections.abc import Iterable
from typing import Any

import polars as pl

from klinefleet.workers.binance.calls.answers import bare_json
from klinefleet.workers.domain.errors import ArchiveConflict, ArchiveDamaged, BadAnswer
from klinefleet.workers.domain.kinds.declaration import Column, ColumnType, Kind, RestRows
from klinefleet.workers.domain.schema import no_rows, schema_of, wire_schema, with_all_columns

logger = logging.getLogger(__name__)

_UNQUOTED = b'"[]'
#: Moments above this are microseconds (spot archives from 2025 on), below it milliseconds.
_MOST_MS = 100_000_000_000_000
#: Bytes that are inflated at once where it is only asked whether they inflate.
_PIECE_BYTES = 1 << 20


def decode_pages(kind: Kind, bodies: Iterable[bytes]) -> pl.DataFrame:
    """Return the rows of REST pages in the lake's columns, in the order they came.

    The bodies have passed `page_check.inspect`. BadAnswer where a value does not parse or a row
    lacks one.
    """
    if kind.rest_rows is RestRows.OBJECTS:
        return _decode_objects(kind, bodies)
    pages = [page for body in bodies if (page := bare_json(body)) != b"[]"]
    lines = [page.replace(b"],[", b"\n") for page in pages]
    if not lines:
        return no_rows(kind)
    try:
        frame = _read(
            b"\n".join(lines).translate(None, _UNQUOTED), wire_schema(kind.archive_columns)
        )
    except pl.exceptions.PolarsError as error:
        logger.debug("rows that are no %s: %s", kind, error)
        raise BadAnswer(
            f"rows of {kind} have a value that is no number, or too few; nothing was merged"
        ) from error
    frame = frame.select(kind.names).cast(schema_of(kind))
    if not _is_complete(frame):
        raise BadAnswer(f"rows of {kind} that lack a value; nothing was merged")
    return frame


def decode_archive(kind: Kind, csv: bytes) -> pl.DataFrame:
    """Return the rows of an archive's CSV, gzipped or not, in the lake's columns, sorted by time.

    With or without a header line; each row's moments in ms or µs, by their magnitude. Equal rows
    are kept once. ArchiveDamaged where a line does not decode or lacks a value; ArchiveConflict
    where two different rows have one time.
    """
    wire = wire_schema(kind.archive_columns)
    try:
        has_header = _first_bytes(csv)[:1].isalpha()
        frame = _read(csv, wire, skip_rows=int(has_header))
    except pl.exceptions.NoDataError:
        return no_rows(kind)
    except (pl.exceptions.PolarsError, OSError, zlib.error) as error:
        logger.debug("lines that are no %s: %s", kind, error)
        found = f"lines that are no {kind}" if _inflates(csv) else "bytes that do not inflate"
        raise ArchiveDamaged(f"the file has {found}; nothing was merged") from error
    if any(frame[name].null_count() for name in wire if name not in kind.names):
        _check_fields(csv, len(wire))
    schema = schema_of(kind)
    kept = [name for name in kind.names if name in wire]
    frame = frame.select(
        _in_ms(name) if schema[name].is_temporal() else pl.col(name) for name in kept
    )
    if not _is_complete(frame):
        raise ArchiveDamaged("the file has rows that lack a value; nothing was merged")
    rows = with_all_columns(kind, frame.cast({name: schema[name] for name in kept}))
    return _without_repeats(kind, rows)


def _check_fields(csv: bytes, wanted: int) -> None:
    """Raise ArchiveDamaged if a line has another number of fields than wanted.

    To a CSV reader a last field that is empty and one that is missing are alike.
    """
    lines = (gzip.decompress(csv) if _is_gzip(csv) else csv).splitlines()
    for number, line in enumerate(lines, 1):
        if line and line.count(b",") != wanted - 1:
            found = line.count(b",") + 1
            raise ArchiveDamaged(
                f"the file has a line of {found} fields, not {wanted} (line {number:,}); nothing "
                "was merged"
            )


def _in_ms(name: str) -> pl.Expr:
    moment = pl.col(name)
    return pl.when(moment > _MOST_MS).then(moment // 1000).otherwise(moment).alias(name)


def _is_complete(frame: pl.DataFrame) -> bool:
    """Return True if no value is missing: `nan` and `inf` are numbers to a CSV reader."""
    return all(
        column.null_count() == 0 and (not column.dtype.is_float() or column.is_finite().all())
        for column in frame
    )


def _without_repeats(kind: Kind, frame: pl.DataFrame) -> pl.DataFrame:
    time = kind.time_column
    if not frame[time].is_sorted():
        frame = frame.sort(time)
    if frame[time].n_unique() == frame.height:
        return frame
    frame = frame.unique(maintain_order=True)
    if frame[time].n_unique() < frame.height:
        twice = frame.filter(pl.col(time).is_duplicated()).head(2)
        raise ArchiveConflict(
            f"the file has two different rows of one time ({twice.rows()}); nothing was merged"
        )
    return frame


def _read(lines: bytes, wire: pl.Schema, skip_rows: int = 0) -> pl.DataFrame:
    return pl.read_csv(lines, has_header=False, schema=wire, quote_char=None, skip_rows=skip_rows)


def _first_bytes(csv: bytes) -> bytes:
    """Return how a CSV begins, gzipped or not."""
    if not _is_gzip(csv):
        return csv[:16]
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(csv, 16)


def _is_gzip(csv: bytes) -> bool:
    return csv.startswith(b"\x1f\x8b")


def _inflates(csv: bytes) -> bool:
    """Return True if a CSV is not gzipped, or inflates to its own CRC-32 and size."""
    if not _is_gzip(csv):
        return True
    try:
        with gzip.open(io.BytesIO(csv)) as stream:
            while stream.read(_PIECE_BYTES):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _decode_objects(kind: Kind, bodies: Iterable[bytes]) -> pl.DataFrame:
    """Return events sorted by time; a value that REST does not have, or left empty, is null."""
    try:
        objects: list[dict[str, Any]] = [found for body in bodies for found in json.loads(body)]
        rows = [[_value(column, found) for column in kind.columns] for found in objects]
    except (ValueError, KeyError, TypeError) as error:
        logger.debug("events that are no %s: %r", kind, error)
        raise BadAnswer(
            f"events of {kind} lack a value, or have one that is no number; nothing was merged"
        ) from error
    frame = pl.DataFrame(rows, schema=wire_schema(kind.columns), orient="row")
    optional = [c.name for c in kind.columns if c.may_be_null and c.type is ColumnType.FLOAT]
    frame = frame.with_columns(pl.col(optional).fill_nan(None)).cast(schema_of(kind))
    return frame.unique(maintain_order=True).sort(kind.time_column)


def _value(column: Column, found: dict[str, Any]) -> Any:
    """Return a column's value in one of REST's objects."""
    if not column.rest_field:
        return None
    if column.may_be_null and not found.get(column.rest_field):
        return None
    value = found[column.rest_field]
    return float(value) if column.type is ColumnType.FLOAT else value

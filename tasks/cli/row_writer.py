"""Where rows go that are read: a file of any of the usual forms, or stdout, in parts, so that
memory stays bounded.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import polars as pl

from klinefleet.workers.domain.errors import NotWritten, RequestError
from klinefleet.workers.domain.schema import MOMENT
from klinefleet.workers.support.optional import require_extra

#: Rows of a Parquet row group or an Arrow batch: three months of 1m candles.
PART_ROWS = 131_072

#: Writes one part.
Add: TypeAlias = Callable[[pl.DataFrame], object]

#: ISO 8601 in UTC, to the millisecond.
_MOMENT_FORMAT = "%Y-%m-%dT%H:%M:%S%.3fZ"


class Format(StrEnum):
    """What rows are written as."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"
    """In a file Arrow's file format, uncompressed, so that it can be mapped; on stdout its stream.
    """
    FEATHER = "feather"
    """Arrow's file format, compressed."""
    JSON = "json"
    """An object a line."""

    @property
    def is_text(self) -> bool:
        return self in (Format.CSV, Format.JSON)


def format_of(target: str, told: str | None) -> Format:
    """Return what `--to target --format told` means; RequestError where they do not say or
    contradict each other.
    """
    if target == "-":
        if told == Format.FEATHER:
            raise RequestError("feather needs a file: --to FILE.feather, or --to - --format arrow")
        return Format(told or Format.CSV)
    ending = Path(target).suffix.removeprefix(".").lower()
    if ending not in list(Format):
        raise RequestError(
            f"--to {target}: its ending says no format; there are "
            f"{', '.join(f'.{f}' for f in Format)}"
        )
    if told and told != ending:
        raise RequestError(
            f"--to {target} and --format {told} contradict each other; --format is for --to -"
        )
    return Format(ending)


def write_file(parts: Iterable[pl.DataFrame], target: Path, form: Format) -> tuple[int, int]:
    """Write the parts beside `target` and put them there when all are written; return the rows and
    the bytes.

    NotWritten where that fails; nothing half stands under the name at any time.
    """
    if target.is_dir():
        raise RequestError(f"--to {target} is a folder; name a file")
    if not target.absolute().parent.is_dir():
        raise RequestError(f"--to {target}: there is no folder {target.absolute().parent}")
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as file:
            rows = _write(parts, file, form)
            file.flush()
            os.fsync(file.fileno())
        size = beside.stat().st_size
        beside.replace(target)
    except OSError as error:
        raise NotWritten(f"{target}: {error.strerror or error}; nothing was put there") from error
    finally:
        beside.unlink(missing_ok=True)
    return rows, size


def write_stdout(parts: Iterable[pl.DataFrame], form: Format) -> int:
    """Write the parts to stdout until all are written or nobody reads any more; return the rows."""
    if not form.is_text and sys.stdout.isatty():
        raise RequestError(
            f"{form} is nothing for a terminal; pipe it somewhere, or give --to FILE"
        )
    try:
        rows = _write(parts, sys.stdout.buffer, form)
        sys.stdout.flush()
    except BrokenPipeError:
        # Like `head`, whoever reads has enough. What Python still flushes as it ends goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return rows


def parts_of(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows as they are read, in their order; the first part has none and tells the
    columns.
    """
    yield rows.collect_schema().to_frame()
    yield from rows.collect_batches(maintain_order=True)


def spelled(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with its moments as text, ISO 8601 in UTC."""
    moments = [
        name
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone
    ]
    return frame.with_columns(pl.col(moments).cast(MOMENT).dt.strftime(_MOMENT_FORMAT))


def _write(parts: Iterable[pl.DataFrame], file: BinaryIO, form: Format) -> int:
    """Write the parts, of which the first tells the columns, and return the rows."""
    parts, rows = iter(parts), 0
    first = next(parts)
    with _WRITERS[form](file, first.clear()) as add:
        every = chain([first], parts)
        for part in every if form.is_text else _gathered(every):
            add(part)
            rows += part.height
    return rows


def _gathered(parts: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the same rows in parts that are worth reading at once."""
    held: list[pl.DataFrame] = []
    for part in parts:
        held.append(part)
        if sum(one.height for one in held) >= PART_ROWS:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


@contextmanager
def _csv(file: BinaryIO, empty: pl.DataFrame) -> Iterator[Add]:
    if nested := [name for name, dtype in empty.schema.items() if dtype.is_nested()]:
        raise RequestError(
            f"CSV has no lists: column {nested[0]} fits into --format json, parquet or arrow"
        )
    file.write(empty.write_csv().encode())
    yield lambda part: file.write(spelled(part).write_csv(include_header=False).encode())


@contextmanager
def _json(file: BinaryIO, empty: pl.DataFrame) -> Iterator[Add]:
    yield lambda part: file.write(spelled(part).write_ndjson().encode())


@contextmanager
def _parquet(file: BinaryIO, empty: pl.DataFrame) -> Iterator[Add]:
    parquet = require_extra("pyarrow.parquet", "writing Parquet")
    with parquet.ParquetWriter(_Forward(file), _arrow(empty).schema, compression="zstd") as writer:
        yield lambda part: writer.write_table(_arrow(part))


@contextmanager
def _arrow_file(
    file: BinaryIO, empty: pl.DataFrame, compression: str | None = None
) -> Iterator[Add]:
    ipc = require_extra("pyarrow.ipc", "writing Arrow")
    if file is sys.stdout.buffer:
        writer = ipc.new_stream(_Forward(file), _arrow(empty).schema)
    else:
        options = ipc.IpcWriteOptions(compression=compression)
        writer = ipc.new_file(_Forward(file), _arrow(empty).schema, options=options)
    with writer:
        yield lambda part: writer.write_table(_arrow(part))


class _Forward:
    """What Arrow writes to: a pipe cannot tell how far it is, so it is counted."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave it open: it is closed by whoever opened it."""


def _arrow(frame: pl.DataFrame) -> Any:
    """Return the frame as Arrow's table, in types that every reader of it knows."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


_WRITERS: dict[Format, Callable[[BinaryIO, pl.DataFrame], AbstractContextManager[Add]]] = {
    Format.CSV: _csv,
    Format.JSON: _json,
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow_file,
    Format.FEATHER: partial(_arrow_file, compression="lz4"),
}

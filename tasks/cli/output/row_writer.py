"""Write rows to a file or to stdout, part by part, so that memory stays bounded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import polars as pl

from klinefleet.tasks.cli.output.streams import until_unreadable
from klinefleet.workers.domain.errors import NotWritten, RequestError
from klinefleet.workers.domain.schema import MOMENT
from klinefleet.workers.support.optional import require_extra
from klinefleet.workers.support.temp_files import temp_path

#: Rows of a Parquet row group or an Arrow batch: three months of 1m candles.
PART_ROWS = 131_072

#: Writes one part.
WritePart: TypeAlias = Callable[[pl.DataFrame], object]

#: ISO 8601 in UTC, to the millisecond.
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.3fZ"


class Format(StrEnum):
    """A file format."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"
    """A file in Arrow's file format, uncompressed so that it can be mapped; on stdout a stream."""
    FEATHER = "feather"
    """Arrow's file format, compressed."""
    JSON = "json"
    """One object a line."""

    @property
    def is_text(self) -> bool:
        return self in (Format.CSV, Format.JSON)


def parse_format(target: str, name: str | None) -> Format:
    """Return the format of `--to TARGET --format NAME`.

    RequestError if they contradict each other, or TARGET has an unknown extension.
    """
    if target == "-":
        if name == Format.FEATHER:
            raise RequestError("feather needs a file; use --to FILE.feather or --format arrow")
        return Format(name or Format.CSV)
    extension = Path(target).suffix.removeprefix(".").lower()
    if extension not in list(Format):
        known = ", ".join(f".{form}" for form in Format)
        raise RequestError(f"--to {target}: no format has this extension; there are {known}")
    if name and name != extension:
        raise RequestError(f"--format {name} contradicts --to {target}; --format is for --to -")
    return Format(extension)


def write_file(parts: Iterable[pl.DataFrame], target: Path, form: Format) -> tuple[int, int]:
    """Write the parts to a file, and return its rows and bytes.

    The file appears only when it is complete: it is written under a temporary name in the same
    folder. NotWritten if that fails.
    """
    if target.is_dir():
        raise RequestError(f"--to {target} is a folder; name a file")
    if not target.absolute().parent.is_dir():
        raise RequestError(f"--to {target}: no folder {target.absolute().parent}")
    try:
        with temp_path(target) as temp:
            with temp.open("wb") as file:
                rows = _write(parts, file, form)
                file.flush()
                os.fsync(file.fileno())
            size = temp.stat().st_size
            temp.replace(target)
    except OSError as error:
        raise NotWritten(
            f"{target}: {error.strerror or 'no reason given'}; nothing was written"
        ) from error
    return rows, size


def write_stdout(parts: Iterable[pl.DataFrame], form: Format) -> int:
    """Write the parts to stdout and return the rows; those that nobody can read are not read."""
    if not form.is_text and sys.stdout.isatty():
        raise RequestError(f"{form} is binary; pipe it, or use --to FILE")
    rows = _write(until_unreadable(parts), sys.stdout.buffer, form)
    sys.stdout.flush()
    return rows


def read_in_parts(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows in order, in parts. The first part is empty and has the columns."""
    yield rows.collect_schema().to_frame()
    yield from rows.collect_batches(maintain_order=True)


def format_times(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with its times as text, ISO 8601 in UTC."""
    times = [
        name
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone
    ]
    return frame.with_columns(pl.col(times).cast(MOMENT).dt.strftime(_TIME_FORMAT))


def _write(parts: Iterable[pl.DataFrame], file: BinaryIO, form: Format) -> int:
    """Write the parts, whose first one has the columns, and return the rows."""
    parts, rows = iter(parts), 0
    first = next(parts)
    with _WRITERS[form](file, first.clear()) as write_part:
        all_parts = chain([first], parts)
        for part in all_parts if form.is_text else _regrouped(all_parts):
            write_part(part)
            rows += part.height
    return rows


def _regrouped(parts: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the same rows in parts of at least PART_ROWS, the last one excepted."""
    group: list[pl.DataFrame] = []
    for part in parts:
        group.append(part)
        if sum(grouped.height for grouped in group) >= PART_ROWS:
            yield pl.concat(group)
            group = []
    if group:
        yield pl.concat(group)


@contextmanager
def _csv(file: BinaryIO, empty: pl.DataFrame) -> Iterator[WritePart]:
    if nested := [name for name, dtype in empty.schema.items() if dtype.is_nested()]:
        raise RequestError(
            f"CSV cannot hold the nested column {nested[0]}; use json, parquet or arrow"
        )
    file.write(empty.write_csv().encode())
    yield lambda part: file.write(format_times(part).write_csv(include_header=False).encode())


@contextmanager
def _json(file: BinaryIO, empty: pl.DataFrame) -> Iterator[WritePart]:
    yield lambda part: file.write(format_times(part).write_ndjson().encode())


@contextmanager
def _parquet(file: BinaryIO, empty: pl.DataFrame) -> Iterator[WritePart]:
    parquet = require_extra("pyarrow.parquet", "writing Parquet")
    with parquet.ParquetWriter(_Forward(file), _arrow(empty).schema, compression="zstd") as writer:
        yield lambda part: writer.write_table(_arrow(part))


@contextmanager
def _arrow_file(
    file: BinaryIO, empty: pl.DataFrame, compression: str | None = None
) -> Iterator[WritePart]:
    ipc = require_extra("pyarrow.ipc", "writing Arrow")
    if file is sys.stdout.buffer:
        writer = ipc.new_stream(_Forward(file), _arrow(empty).schema)
    else:
        options = ipc.IpcWriteOptions(compression=compression)
        writer = ipc.new_file(_Forward(file), _arrow(empty).schema, options=options)
    with writer:
        yield lambda part: writer.write_table(_arrow(part))


class _Forward:
    """A file for Arrow that counts its own position, which a pipe does not know."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave the file open; its owner closes it."""


def _arrow(frame: pl.DataFrame) -> Any:
    """Return the frame as an Arrow table, in types that every Arrow reader knows."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


_WRITERS: dict[Format, Callable[[BinaryIO, pl.DataFrame], AbstractContextManager[WritePart]]] = {
    Format.CSV: _csv,
    Format.JSON: _json,
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow_file,
    Format.FEATHER: partial(_arrow_file, compression="lz4"),
}

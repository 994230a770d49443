"""A disk cache of a bucket's partitions: uncompressed Arrow files, mapped into memory.

A file's name is the hash of the store, the partition's key and its ETag, so an old version is never
returned for a new one. Files are written under a temporary name and renamed. A file is therefore
complete under its final name, even if other processes write it too or are killed while writing.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import polars as pl

from klinefleet.workers.storage.objects import StoredObject
from klinefleet.workers.support.folders import cache_folder
from klinefleet.workers.support.temp_files import is_left_over, temp_path

if TYPE_CHECKING:
    import pyarrow as pa


logger = logging.getLogger(__name__)

#: A year of 1m candles of one symbol takes 46 MB, so about two hundred fit.
MAX_BYTES = 10 * 2**30

_MAGIC = b"ARROW1"


class ArrowCache:
    """A cache of at most `max_bytes` below `folder`; the least recently used files go first.

    Without a folder, and without a place for this user's own, it keeps nothing.
    Several processes may share it. A file that cannot be read or written is a cache miss, never an
    error.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        own = cache_folder()
        self.folder = folder or (own / "partitions" if own else None)
        self.max_bytes = max_bytes
        self._arrow = _pyarrow()

    def get(self, store: str, entry: StoredObject) -> pl.DataFrame | None:
        """Return the memory-mapped rows of this version of a partition; None on a cache miss."""
        path = self._path(store, entry)
        if path is None:
            return None
        try:
            rows = self._map(path)
            # `make_room` removes files by this time, the oldest first.
            os.utime(path)
        except FileNotFoundError:
            return None
        except (
            OSError,
            ValueError,
            self._arrow.ArrowException,
            pl.exceptions.PolarsError,
        ) as error:
            logger.warning("cache: could not read %s, so it is removed: %s", path, error)
            with suppress(OSError):
                path.unlink()
            return None
        return rows

    def has(self, store: str, entry: StoredObject) -> bool:
        """Return whether this version of a partition is cached."""
        path = self._path(store, entry)
        return path is not None and path.exists()

    def put(self, store: str, entry: StoredObject, rows: pl.DataFrame) -> pl.DataFrame:
        """Cache the rows of this version of a partition and return them memory-mapped.

        If they cannot be written, `rows` itself is returned. Call `make_room` after the last `put`.
        """
        path = self._path(store, entry)
        if path is None:
            return rows
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temp_path(path) as temp:
                with temp.open("wb") as file:
                    rows.rechunk().write_ipc(file, compression="uncompressed")
                    # Without it, a renamed file may be empty after the machine crashes.
                    file.flush()
                    os.fsync(file.fileno())
                temp.replace(path)
            return self._map(path)
        except (OSError, ValueError, self._arrow.ArrowException) as error:
            logger.warning("cache: could not write %s to %s: %s", entry.key, self.folder, error)
            return rows

    def make_room(self) -> None:
        """Remove the least recently used files until at most `max_bytes` are left.

        Rows that are mapped already stay valid after their file is removed.
        """
        files = sorted(self._files())
        excess_bytes = sum(size for _, size, _ in files) - self.max_bytes
        for _, size, path in files:
            if excess_bytes <= 0:
                return
            with suppress(OSError):
                path.unlink()
            excess_bytes -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield each cached file as (time of last use, bytes, path).

        Temporary files left by killed writers are removed on the way.
        """
        for path in self.folder.rglob("*.arrow*") if self.folder else ():
            with suppress(OSError):
                stat = path.stat()
                if not path.name.startswith("."):
                    yield stat.st_mtime, stat.st_size, path
                elif is_left_over(path.name, stat.st_mtime):
                    path.unlink()

    def _map(self, path: Path) -> pl.DataFrame:
        """Return the memory-mapped rows of a file; ValueError if the file is incomplete."""
        with path.open("rb") as file:
            starts_right = file.read(len(_MAGIC)) == _MAGIC
            if (
                not starts_right
                or file.seek(-len(_MAGIC), os.SEEK_END) < 0
                or file.read() != _MAGIC
            ):
                raise ValueError("it is not a complete Arrow file")
        table: pa.Table = self._arrow.ipc.open_file(self._arrow.memory_map(str(path))).read_all()
        rows = pl.from_arrow(table, rechunk=False)
        assert isinstance(rows, pl.DataFrame)
        return rows

    def _path(self, store: str, entry: StoredObject) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(f"{store}\n{entry.key}\n{entry.etag}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:34]}.arrow"


def can_map() -> bool:
    """Return whether PyArrow, which maps the files, is installed (extra klinefleet[read])."""
    try:
        _pyarrow()
    except ImportError:
        return False
    return True


def _pyarrow() -> ModuleType:
    pyarrow: ModuleType = import_module("pyarrow")
    import_module("pyarrow.ipc")
    return pyarrow

"""Partitions of a bucket kept on this machine as uncompressed Arrow, and mapped into memory instead
of being read.

A file is named by the partition's key and ETag, so a partition that was replaced is never taken for
the new one. Files are written beside and renamed: what stands under a name is whole, whoever else
writes or was killed while writing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import polars as pl

from klinefleet.workers.domain.timestamps import HOUR_MS
from klinefleet.workers.storage.objects import StoredObject

if TYPE_CHECKING:
    import pyarrow as pa


logger = logging.getLogger(__name__)

#: Of a symbol-year of 1m 46 MB lie here: room for some two hundred.
MAX_BYTES = 10 * 2**30

#: A file that somebody began to write so long ago was left behind by a process that was killed.
_LEFT_BEHIND_S = HOUR_MS / 1000
_MAGIC = b"ARROW1"


class ArrowCache:
    """At most `max_bytes` of partitions below `folder`; the ones used longest ago go first.

    Several processes may share it. It is only ever a saving: what cannot be written or read is not
    there.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder or default_folder()
        self.max_bytes = max_bytes
        self._arrow = _pyarrow()

    def get(self, store: str, entry: StoredObject) -> pl.DataFrame | None:
        """Return the rows of just this version of a partition, mapped; None where they are not
        here.
        """
        path = self._path(store, entry)
        try:
            frame = self._mapped(path)
            # Read by whoever makes room: what was used last stays longest.
            os.utime(path)
        except FileNotFoundError:
            return None
        except (
            OSError,
            ValueError,
            self._arrow.ArrowException,
            pl.exceptions.PolarsError,
        ) as error:
            logger.warning("cache: %s cannot be used, it is removed: %s", path, error)
            with suppress(OSError):
                path.unlink()
            return None
        return frame

    def has(self, store: str, entry: StoredObject) -> bool:
        """Return whether this version of a partition is here."""
        return self._path(store, entry).exists()

    def put(self, store: str, entry: StoredObject, rows: pl.DataFrame) -> pl.DataFrame:
        """Keep the rows of this version of a partition, and return them, mapped where they could be
        kept.

        Whoever keeps several calls `make_room` afterwards.
        """
        path = self._path(store, entry)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                rows.rechunk().write_ipc(file, compression="uncompressed")
                # After a crash of the machine a renamed file may be there without its bytes.
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            return self._mapped(path)
        except (OSError, ValueError, self._arrow.ArrowException) as error:
            logger.warning("cache: %s cannot be kept in %s: %s", entry.key, self.folder, error)
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            return rows

    def make_room(self) -> None:
        """Remove what was used longest ago until no more than `max_bytes` are left.

        Whoever has mapped a removed file keeps its rows.
        """
        files = sorted(self._files())
        too_many = sum(size for _, size, _ in files) - self.max_bytes
        for _, size, path in files:
            if too_many <= 0:
                return
            with suppress(OSError):
                path.unlink()
            too_many -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each file was used last, its bytes and where it is; what was left half written
        is removed.
        """
        for path in self.folder.rglob("*.arrow*"):
            with suppress(OSError):
                found = path.stat()
                if not path.name.startswith("."):
                    yield found.st_mtime, found.st_size, path
                elif time.time() - found.st_mtime > _LEFT_BEHIND_S:
                    path.unlink()

    def _mapped(self, path: Path) -> pl.DataFrame:
        with path.open("rb") as file:
            if (
                file.read(len(_MAGIC)) != _MAGIC
                or file.seek(-len(_MAGIC), os.SEEK_END) < 0
                or file.read() != _MAGIC
            ):
                raise ValueError("it is no Arrow file, or not a whole one")
        table: pa.Table = self._arrow.ipc.open_file(self._arrow.memory_map(str(path))).read_all()
        frame = pl.from_arrow(table, rechunk=False)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _path(self, store: str, entry: StoredObject) -> Path:
        name = hashlib.sha256(f"{store}\n{entry.key}\n{entry.etag}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:34]}.arrow"


def default_folder() -> Path:
    """Return where partitions are kept: below XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "klinefleet" / "partitions"


def can_map() -> bool:
    """Return whether the library that maps Arrow files is installed (klinefleet[read])."""
    try:
        _pyarrow()
    except ImportError:
        return False
    return True


def _pyarrow() -> ModuleType:
    pyarrow: ModuleType = import_module("pyarrow")
    import_module("pyarrow.ipc")
    return pyarrow

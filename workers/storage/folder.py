"""The object store in a plain folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.storage.objects import ObjectStore, none_if_missing
from klinefleet.workers.support.temp_files import is_left_over, temp_path


class FolderStore(ObjectStore):
    """A plain folder; several processes of this machine may write to it at the same time.

    A process that is killed while it writes leaves a temporary file. A later listing deletes it.
    """

    def _etag(self, info: dict[str, Any]) -> str:
        return f"{info['ino']:x}-{int(info['mtime'] * 1e6):x}-{info['size']:x}"

    def _find(self, path: str) -> dict[str, dict[str, Any]]:
        """Return all files below a folder; files that are removed meanwhile may be missing.

        Ten times as fast as fsspec's `find`.
        """
        found, folders = dict[str, dict[str, Any]](), [path]
        while folders:
            with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
                        continue
                    with suppress(FileNotFoundError):
                        stat = entry.stat()
                        found[entry.path] = _info(stat)
                        if is_left_over(entry.name, stat.st_mtime):
                            self._remove_left_over(entry.path)
        return found

    def _read_tail(self, path: str, size: int) -> bytes:
        # Tens of thousands of footers are read; a file object would take three times as long.
        handle = os.open(path, os.O_RDONLY)
        try:
            return os.pread(handle, size, max(0, os.fstat(handle).st_size - size))
        finally:
            os.close(handle)

    def _remove(self, path: str) -> None:
        super()._remove(path)
        # Remove folders that are now empty, as in S3.
        with suppress(OSError):
            for folder in Path(path).relative_to(self._root).parents[:-1]:
                (Path(self._root) / folder).rmdir()

    def _remove_left_over(self, path: str) -> None:
        # It stays where this process may only read.
        with suppress(OSError):
            self._remove(path)

    def _put(self, path: str, body: bytes) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with temp_path(Path(path)) as temp:
            self._fs.pipe_file(str(temp), body)
            temp.replace(path)

    def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with temp_path(Path(path)) as temp:
            with temp.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            with _locked(temp.parent) as folder:
                stored = none_if_missing(self._version, path)
                if stored != replaces:
                    raise VersionConflict(
                        f"{path} changed from version {replaces} to {stored} since it was read; "
                        "nothing was written"
                    )
                temp.replace(path)
                os.fsync(folder)


def _info(stat: os.stat_result) -> dict[str, Any]:
    """Return what `_etag` and `list` need to know of a file, under fsspec's names."""
    return {"ino": stat.st_ino, "mtime": stat.st_mtime, "size": stat.st_size}


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold the folder's lock; the kernel releases that of a killed process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)

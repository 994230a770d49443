"""The object store in a plain folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os.path import commonpath, realpath
from pathlib import Path
from typing import Any

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.storage.objects import ObjectStore, none_if_missing
from klinefleet.workers.support.temp_files import is_left_over, temp_path


class FolderStore(ObjectStore):
    """A plain folder; several processes of this machine may write to it at the same time.

    A process that is killed while it writes leaves a temporary file. A later listing deletes it.
    """

    _trial_bytes = 1 << 20

    def sweep(self, folders: Iterable[str]) -> None:
        for folder in folders:
            self.list(folder)

    def _etag(self, info: dict[str, Any]) -> str:
        return f"{info['ino']:x}-{int(info['mtime'] * 1e6):x}-{info['size']:x}"

    def _find(self, path: str) -> dict[str, dict[str, Any]]:
        """Return all files below a folder; files that are removed meanwhile may be missing.

        Links are followed, but not those that lead in a circle: they hold nothing of their own. Ten
        times as fast as fsspec's `find`.
        """
        found = dict[str, dict[str, Any]]()
        # Each folder with the real paths of the folders in which links led to it.
        folders: list[tuple[str, tuple[str, ...]]] = [(path, ())]
        while folders:
            folder, left = folders.pop()
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir():
                            if not entry.is_symlink():
                                folders.append((entry.path, left))
                            elif not _is_circle(entry.path, here := (*left, realpath(folder))):
                                folders.append((entry.path, here))
                            continue
                        stat = entry.stat()
                    except OSError as error:
                        # It was removed meanwhile, or is a link to itself.
                        if error.errno not in (errno.ENOENT, errno.ELOOP):
                            raise
                        continue
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


def _is_circle(link: str, left: tuple[str, ...]) -> bool:
    """Return whether a link leads to a folder that one has come through, or to one above it."""
    target = realpath(link)
    return any(commonpath((target, folder)) == target for folder in left)


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

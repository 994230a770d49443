"""Temporary files and folders, and what killed processes leave of them.

A file appears whole: it is written under a temporary name in the same folder, then renamed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from klinefleet.workers.domain.timestamps import HOUR_MS

_NAME = re.compile(r"\..+\.[0-9a-f]{32}")
_MAX_AGE_S = HOUR_MS / 1000


@contextmanager
def temp_path(target: Path) -> Iterator[Path]:
    """Yield a new hidden path beside `target`; a file there that is not renamed is deleted."""
    path = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


def is_left_over(name: str, modified_s: float) -> bool:
    """Return whether a process that was killed has left this temporary file, an hour ago or more.

    name: the file's name in its folder. modified_s: when it was written last, Unix time in s.
    """
    return _NAME.fullmatch(name) is not None and _is_old(modified_s)


@contextmanager
def temp_folder(purpose: str) -> Iterator[Path]:
    """Yield a new folder among this machine's temporary files, deleted in the end.

    Those that killed processes left for this purpose an hour ago or earlier are deleted too. Each
    is locked while its process lives. OSError if no place is writable.
    """
    prefix = f"klinefleet-{purpose}-"
    _remove_left_over(prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(handle)


def _remove_left_over(prefix: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # another user's, or another process removes it
            found = path.lstat()
            if found.st_uid != os.getuid() or not _is_old(found.st_mtime):
                continue
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def _is_old(modified_s: float) -> bool:
    return time.time() - modified_s > _MAX_AGE_S

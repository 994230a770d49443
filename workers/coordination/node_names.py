"""Names of worker processes in Flower and in the log; the same after every restart."""

from __future__ import annotations

import fcntl
import os
from itertools import count
from pathlib import Path

from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.support.folders import make_private, runtime_folder


def node_name(serves: str, folder: Path | None = None) -> str:
    """Return `serves@host`; `serves.2@host` and so on if a process of this machine has that name.

    In a container, the host is its id (`docker ps`) or the pod's name. Without a writable folder,
    the number is the process id.
    """
    names = folder or runtime_folder() / "names"
    try:
        if folder is None:
            make_private(runtime_folder())
        names.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = next(number for number in count(1) if _is_free(names / f"{serves}.{number}"))
    except (OSError, SettingsError):
        number = os.getpid()
    return f"{serves if number == 1 else f'{serves}.{number}'}@{os.uname().nodename}"


def _is_free(path: Path) -> bool:
    """Lock the file of a name; return False if another process holds it."""
    # Left open: the kernel releases the lock when this process ends, however it ends.
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True

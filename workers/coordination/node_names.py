"""What a process is called in Flower and in the log: by what it serves and where, the same after
every restart.
"""

from __future__ import annotations

import fcntl
import os
from itertools import count
from pathlib import Path

from klinefleet.workers.coordination.private_redis import home


def node_name(serves: str, folder: Path | None = None) -> str:
    """Return `serves@host`, or `serves.2@host` and so on where a living process of this machine is
    called that.

    In a container the host is its id (`docker ps`) or its pod's name. Without a folder to write in,
    the number is the process's own.
    """
    names = folder or home() / "names"
    try:
        names.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = next(number for number in count(1) if _is_free(names / f"{serves}.{number}"))
    except OSError:
        number = os.getpid()
    return f"{serves if number == 1 else f'{serves}.{number}'}@{os.uname().nodename}"


def _is_free(path: Path) -> bool:
    """Take the name that a file stands for; returns whether nobody had it."""
    # Never closed: the lock holds the name until the kernel ends this process, however it ends.
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True

"""This user's folders on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path | None:
    """Return the folder of what can be made again: below XDG_CACHE_HOME, or ~/.cache.

    None where this user may not write there, or has no home folder (a container's made-up uid).
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache").absolute() / "klinefleet"
        found = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    except (RuntimeError, OSError):
        return None
    return folder if found.is_dir() and os.access(found, os.W_OK | os.X_OK) else None


def runtime_folder() -> Path:
    """Return the folder of what need not outlive a reboot: sockets, locks, logs, health files.

    It is below XDG_RUNTIME_DIR, or the folder of temporary files, and is each user's own.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    if not base:
        try:
            base = tempfile.gettempdir()
        except FileNotFoundError:
            # No folder is writable. Who needs one says so; who only looks finds nothing there.
            base = "/tmp"
    return Path(base) / f"klinefleet-{os.getuid()}"

"""This user's folders on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of what can be made again: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "klinefleet"


def runtime_folder() -> Path:
    """Return the folder of what need not outlive a reboot: sockets, locks, logs, health files.

    It is below XDG_RUNTIME_DIR, or the folder of temporary files, and is each user's own.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"klinefleet-{os.getuid()}"

"""This user's folders on this machine."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from klinefleet.workers.domain.errors import SettingsError

#: What a file of this user alone must not allow: its group and others anything.
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


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


def make_private(folder: Path) -> None:
    """Make sure that a folder exists and is this user's alone.

    SettingsError if it is another user's, a link, or one that others may have written to; one that
    others could only look into is closed to them.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if is_ours and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(0o700)
    if fault := fault_of_owner(folder):
        raise SettingsError(f"{fault}; remove it, or set XDG_RUNTIME_DIR to a folder of your own")


def fault_of_owner(path: Path) -> str:
    """Return in words why a file or folder is not this user's alone; empty if it is."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if found.st_uid != os.getuid():
        return f"{path} belongs to the user {found.st_uid}, not to this one ({os.getuid()})"
    if found.st_mode & _OF_OTHERS:
        return f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o})"
    return ""

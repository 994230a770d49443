"""Signs of life of this machine's lanes: a file each, touched from its own loop.

`python -m klinefleet.workers.coordination.liveness` judges.

Exit 0: every lane here has touched its file lately. 1: one line names those that have not, or says
that there is none. Imports little, since it is run every few seconds.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

BEAT_S = 5.0
#: How long a lane may be silent. Its loop stands still while it looks for Redis, so longer than
#: Redis takes to be replaced by another (180 s).
SILENT_S = 240.0
#: The time of a file whose lane has not beaten yet.
_NEVER_S = 0.0
#: The longest that a task can honestly take: each of a page's six tries may wait 300 s for weight
#: and be cut off by a timeout. An older one hangs, threads cannot be cancelled, and so the process
#: should be started anew.
LONGEST_TASK_S = 2400.0


class Alive:
    """One lane's file. It is touched by `beat`, and left alone while a task is too old."""

    def __init__(
        self, name: str, *, folder: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = (folder or alive_folder()) / name
        self._clock = clock

    def expect(self) -> None:
        """Say that the lane is to live: until it beats for the first time it is missed."""
        self._touch(_NEVER_S)

    def beat(self, tasks_began_s: Iterable[float | None] = ()) -> None:
        """Say that the lane lives, unless one of its tasks began too long ago; times are seconds of
        the clock.
        """
        now_s = self._clock()
        oldest_s = max((now_s - began_s for began_s in tasks_began_s if began_s), default=0.0)
        if oldest_s > LONGEST_TASK_S:
            logger.error(
                "a task has run for %.0f s and hangs; no sign of life until it ends", oldest_s
            )
            return
        self._touch(now_s)

    def end(self) -> None:
        """Take the sign away: the lane ended in order."""
        self._file.unlink(missing_ok=True)

    def _touch(self, at_s: float) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch()
            os.utime(self._file, (at_s, at_s))
        except OSError as error:
            logger.warning("no sign of life could be left: %s", error)


def alive_folder() -> Path:
    """Return where this machine's lanes leave their files."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / "klinefleet" / "alive"


def verdict(folder: Path, now_s: float) -> str | None:
    """Return what is wrong with the lanes of a folder in one line, None where nothing is."""
    silent_s: dict[str, float] = {}
    for file in sorted(folder.glob("*")):
        with suppress(FileNotFoundError):  # of a lane that is just ending
            silent_s[file.name] = now_s - file.stat().st_mtime
    if not silent_s:
        return f"no lane runs here: nothing in {folder}"
    stale = [_told(name, silent, now_s) for name, silent in silent_s.items() if silent > SILENT_S]
    return f"no sign of life of {', '.join(stale)}" if stale else None


def _told(name: str, silent_s: float, now_s: float) -> str:
    return (
        f"{name} since it was started"
        if silent_s >= now_s - _NEVER_S
        else f"{name} for {silent_s:.0f} s"
    )


def main() -> int:
    """Return the exit code, having said what is wrong."""
    wrong = verdict(alive_folder(), time.time())
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

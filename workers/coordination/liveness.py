"""Health of this machine's lanes: each touches a file from its own loop.

`python -m klinefleet.workers.coordination.liveness` checks the files. It exits with 0 if every lane
touched its file within MAX_SILENCE_S, otherwise with 1 and one line that names the silent lanes. It
imports little, since it runs every few seconds.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from klinefleet.workers.support.folders import runtime_folder

logger = logging.getLogger(__name__)

TOUCH_INTERVAL_S = 5.0
#: A lane that is silent for longer is unhealthy. Its loop stands still while it reconnects to
#: Redis, so this is longer than the replacement of a Redis server takes (180 s).
MAX_SILENCE_S = 240.0
#: Modification time of a file whose lane has not been running yet.
_NEVER_S = 0.0
#: A task that runs longer hangs: each of a page's six tries may wait 300 s for weight and then time
#: out. Threads cannot be cancelled, so the process has to be restarted.
MAX_TASK_S = 2400.0


class HealthFile:
    """One lane's health file."""

    def __init__(
        self, name: str, *, folder: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = (folder or health_folder()) / name
        self._clock = clock

    def expect(self) -> None:
        """Create the file of a lane that starts; it is unhealthy until its first `touch`."""
        self._set_time(_NEVER_S)

    def touch(self, tasks_began_s: Iterable[float | None] = ()) -> None:
        """Touch the file, unless one of the lane's tasks hangs.

        tasks_began_s: when its tasks began, by the clock; None for one that has not begun.
        """
        now_s = self._clock()
        oldest_s = max((now_s - began_s for began_s in tasks_began_s if began_s), default=0.0)
        if oldest_s > MAX_TASK_S:
            logger.error(
                "a task has been running for %.0f s; the lane counts as unhealthy until it ends",
                oldest_s,
            )
            return
        self._set_time(now_s)

    def remove(self) -> None:
        """Remove the file of a lane that ends."""
        self._file.unlink(missing_ok=True)

    def _set_time(self, at_s: float) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch()
            os.utime(self._file, (at_s, at_s))
        except OSError as error:
            logger.warning("could not touch the health file: %s", error)


def health_folder() -> Path:
    """Return the folder of this user's health files."""
    return runtime_folder() / "alive"


def find_problem(folder: Path, now_s: float) -> str | None:
    """Return one line that names the silent lanes, None if all lanes are healthy."""
    silence_s: dict[str, float] = {}
    for file in sorted(folder.glob("*")):
        with suppress(FileNotFoundError):  # a lane that ends at this moment
            silence_s[file.name] = now_s - file.stat().st_mtime
    if not silence_s:
        return f"no lane is running: no files in {folder}"
    silent = [
        _describe(lane, seconds, now_s)
        for lane, seconds in silence_s.items()
        if seconds > MAX_SILENCE_S
    ]
    return f"no heartbeat from {', '.join(silent)}" if silent else None


def _describe(lane: str, silence_s: float, now_s: float) -> str:
    never_touched = silence_s >= now_s - _NEVER_S
    return f"{lane} since it started" if never_touched else f"{lane} for {silence_s:.0f} s"


def main() -> int:
    """Print the problem, if any, and return the exit code."""
    problem = find_problem(health_folder(), time.time())
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

"""Health of this machine's workers: each lane touches a file of its worker from its own loop.

`python -m klinefleet.workers.coordination.liveness` checks the files of all workers of this user,
or with a process id after it those of one worker. It exits with 0 if every lane touched its file
within MAX_SILENCE_S, otherwise with 1 and one line that names the silent lanes. It imports little,
since it runs every few seconds.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.support.folders import make_private, runtime_folder

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
#: A folder of a worker that is gone is removed after this time. A new one is not locked at once.
_KEPT_S = 60.0


class WorkerHealth:
    """The health files of one worker: a file for each lane, in a folder of its own.

    The folder is locked as long as one of the worker's processes lives. What a killed worker leaves
    counts for nothing, neither for its health nor for that of another one.
    """

    def __init__(self, root: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        own, root = root is None, root or health_folder()
        self.folder = root / f"{os.getpid()}-none"
        try:
            if own:
                make_private(runtime_folder())
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove_left_over(root)
            self.folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
            # Left open: the kernel releases the lock with the last process that has it.
            fcntl.flock(os.open(self.folder, os.O_RDONLY), fcntl.LOCK_EX)
        except (OSError, SettingsError) as error:
            logger.warning("no health files, so the health check will fail: %s", error)

    def lane(self, name: str) -> HealthFile:
        """Return the file of one lane."""
        return HealthFile(name, self.folder, clock=self._clock)

    def close(self) -> None:
        """Remove the files of a worker that ends."""
        shutil.rmtree(self.folder, ignore_errors=True)


class HealthFile:
    """One lane's health file."""

    def __init__(self, name: str, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._file = folder / name
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
            self._file.touch()
            os.utime(self._file, (at_s, at_s))
        except OSError as error:
            logger.warning("could not touch the health file: %s", error)


def health_folder() -> Path:
    """Return the folder of this user's workers' health files."""
    return runtime_folder() / "alive"


def find_problem(root: Path, now_s: float, pid: int | None = None) -> str | None:
    """Return one line that names the silent lanes, None if every lane of every worker is healthy.

    pid: the one worker to look at, by its process.
    """
    workers = [
        folder for folder in _folders(root) if _is_alive(folder) and pid in (None, _pid_of(folder))
    ]
    if not workers:
        found = f"worker {pid} does not run" if pid else "no worker is running"
        return f"{found}: no files of it in {root}"
    problems = [
        f"worker {_pid_of(folder)}: {problem}"
        for folder in workers
        if (problem := find_problem_of_worker(folder, now_s))
    ]
    return "; ".join(problems) or None


def find_problem_of_worker(folder: Path, now_s: float) -> str | None:
    """Return one line that names the silent lanes of a worker, None if they are healthy."""
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


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.glob("*-*")) if path.is_dir())


def _pid_of(folder: Path) -> int:
    return int(folder.name.partition("-")[0])


def _is_alive(folder: Path) -> bool:
    """Return whether a process of the folder's worker has it locked."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _remove_left_over(root: Path) -> None:
    """Remove the folders of workers that were killed."""
    for folder in _folders(root):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > _KEPT_S and not _is_alive(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _describe(lane: str, silence_s: float, now_s: float) -> str:
    never_touched = silence_s >= now_s - _NEVER_S
    return f"{lane} since it started" if never_touched else f"{lane} for {silence_s:.0f} s"


def main(arguments: Sequence[str] = ()) -> int:
    """Print the problem, if any, and return the exit code; `arguments`: a process id, or none."""
    pid = int(arguments[0]) if arguments and arguments[0].isdecimal() else None
    problem = find_problem(health_folder(), time.time(), pid)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

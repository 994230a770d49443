"""Child processes of tests, which end with the test, and requests to them."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from klinefleet.workers.coordination.private_redis import die_with_parent

ROOT = Path(__file__).resolve().parents[1]

#: Free ports are looked for here: below those that the kernel gives to calls that go out.
PORTS = (10_000, 32_000)
#: A guard against what never comes, not a limit on how long anything may take on a slow machine.
WITHIN_S = 60.0


def until(what: str, holds: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """Return what `holds` returns as soon as that is true; AssertionError after `within_s`."""
    ends = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < ends, f"{what}: not within {within_s} s"
        time.sleep(0.02)
    return value


def await_young_minute(left_s: float) -> None:
    """Wait for a minute with `left_s` seconds left, also by a clock that is a second off."""
    until(f"a minute with {left_s} s left", lambda: 1 < time.time() % 60 < 60 - left_s)


def free_port() -> int:
    """Return a free loopback port that no other test and no outgoing call will take."""
    while True:
        port = random.randrange(*PORTS)
        if _reservations().reserve(port):
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


class PortReservations:
    """Ports given out by all test processes of this user, each to one process at a time.

    Otherwise another test could take a port between the check and the bind.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._lock = threading.Lock()
        self._ours: set[int] = set()

    def reserve(self, port: int) -> bool:
        """Return whether the port was nobody's; it is this process's then."""
        with self._lock:
            if port in self._ours:
                return False
            try:
                # One byte of the file for each port. The kernel lets go of it when the process
                # ends, however it does.
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            except (BlockingIOError, PermissionError):
                return False
            self._ours.add(port)
            return True

    def close(self) -> None:
        """Let go of all."""
        os.close(self._file)


@cache
def _reservations() -> PortReservations:
    return PortReservations(Path(tempfile.gettempdir(), f"klinefleet-test-ports-{os.getuid()}"))


def ask(url: str, method: str = "GET", body: Any = None) -> Any:
    """Return the JSON that a stand-in answers."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, method=method, data=data), timeout=WITHIN_S
    ) as answer:
        return json.loads(answer.read() or b"null")


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants that live, parents first."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid: int) -> bool:
    """Return whether a process runs (one that ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Process:
    """A child in its own session, ended with the test however that ends."""

    process: subprocess.Popen[bytes] | None = None

    def spawn(
        self,
        arguments: list[str],
        env: dict[str, str],
        log: Path,
        stdout: int | None = None,
        stdin: int | None = None,
    ) -> None:
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                arguments,
                cwd=ROOT,
                env=env,
                stdin=stdin,
                stdout=out if stdout is None else stdout,
                stderr=out,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def stop(self, number: int = signal.SIGTERM, within_s: float = 90.0) -> None:
        """Tell it to end and wait; one that does not is killed."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(WITHIN_S)
        for pipe in (self.process.stdin, self.process.stdout):
            # What it was still to be told before it ended is in the pipe.
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        self.process = None

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def kill_tree(self) -> None:
        """Kill it and all its descendants at once, as a machine that loses its power would."""
        if self.process is None:
            return
        # The number of one that has ended may be another program's by now.
        for pid in tree(self.pid) if self.process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

"""A started `klines` process: each command is a fork of it, which saves half a second.

The fork is a process like any other, with its own environment, folder, output and exit code. That
the installed script starts is shown by `Command` and every worker.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from klinefleet.workers.coordination.private_redis import die_with_parent
from tests.processes import Process

#: All that a command imports, now or when it comes to it.
IMPORTED = (
    "klinefleet.tasks.cli.main",
    "klinefleet.tasks.fleet.supervisor",
    "klinefleet.tasks.runs.summary",
    "klinefleet.tasks.client.follow",
    "polars",
    "fsspec.implementations.local",
)


class WarmKlines(Process):
    """Runs `klines` commands one after the other; starts again after it died."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="klines-tests-")

    def run(
        self, arguments: list[str], *, folder: Path, env: dict[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end.

        subprocess.TimeoutExpired and all of it killed where that takes too long. RuntimeError where
        the process that runs commands died: whether the command had begun is unknown.
        """
        self._start()
        out, err = (Path(self._folder.name, name) for name in ("out", "err"))
        code = self._ask([arguments, str(folder), env, str(out), str(err)], timeout_s)
        if code is None:
            self.kill_tree()
            raise subprocess.TimeoutExpired(
                ["klines", *arguments], timeout_s, out.read_bytes(), err.read_bytes()
            )
        return subprocess.CompletedProcess(
            ["klines", *arguments], code, out.read_text(), err.read_text()
        )

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def _log(self) -> Path:
        return Path(self._folder.name, "log")

    def _start(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.stop()
        if self.process is None:
            command = [sys.executable, "-m", "tests.warm_klines"]
            self.spawn(command, dict(os.environ), self._log, subprocess.PIPE, subprocess.PIPE)

    def _ask(self, wanted: list[Any], timeout_s: float) -> int | None:
        assert self.process
        assert self.process.stdin
        assert self.process.stdout
        # Where nobody reads it, nobody answers either.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(wanted).encode() + b"\n")
            self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], timeout_s)[0]:
            return None
        if not (answer := self.process.stdout.readline()):
            self.stop(signal.SIGKILL)
            raise RuntimeError(
                f"the process that runs commands died; it wrote: {self._log.read_text()[-2000:]}"
            )
        return int(answer)


def serve() -> None:
    """Fork for each line on stdin, and answer with the exit code of what the fork became."""
    for name in IMPORTED:
        importlib.import_module(name)
    # What a fork never frees it never copies.
    gc.freeze()
    while line := sys.stdin.buffer.readline():
        ours, pid = os.getpid(), os.fork()
        if not pid:
            die_with_parent(ours)
            become(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def become(arguments: list[str], folder: str, env: dict[str, str], out: str, err: str) -> None:
    """Be the command, as a shell would have started it."""
    from klinefleet.tasks.cli.main import main

    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY),
        (2, err, os.O_WRONLY),
    ):
        os.dup2(os.open(path, flags | (os.O_CREAT | os.O_TRUNC if number else 0), 0o600), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.exit(main(arguments, prog_name="klines"))


if __name__ == "__main__":
    serve()

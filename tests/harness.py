"""Fleets for tests: workers and the klines command as real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from redis import RedisError

from klinefleet.tasks.fleet.lanes import LANES
from klinefleet.workers.coordination.private_redis import die_with_parent
from tests.processes import WITHIN_S, Process, tree, until
from tests.servers import Exchange, RedisServer
from tests.warm_klines import WarmKlines

KLINES = Path(sys.executable).with_name("klines")


#: Options of an exchange with so much weight that no test waits for what another has spent, and
#: with few symbols.
AMPLE = ("--symbols", "24", "--futures-limit", "24000", "--spot-limit", "60000")


#: Runs the commands that a test waits for.
WARM = WarmKlines()


class Command(Process):
    """A `klines` command that goes on beside the test."""

    def __init__(self, arguments: list[str], folder: Path, env: dict[str, str]) -> None:
        name = uuid.uuid4().hex
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(KLINES), *arguments],
                cwd=folder,
                env=env,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def interrupt(self) -> None:
        """Do as Ctrl-C does."""
        os.kill(self.pid, signal.SIGINT)

    def result(self, within_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Return how it ended, waiting for that."""
        assert self.process
        code = self.process.wait(within_s)
        return subprocess.CompletedProcess([], code, self._out.read_text(), self._err.read_text())


@dataclass
class Fleet:
    """Everything a user has: an exchange, a Redis, a store, workers and the command."""

    folder: Path
    exchange: Exchange
    redis: RedisServer
    store_url: str
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[Process] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("KLINES_")}
        ours = {"KLINES_REDIS_URL": self.redis.url, "KLINES_STORE_URL": self.store_url}
        return {**clean, **ours, **self.exchange.env, **self.settings}

    def start_worker(self, *options: str, inside: Sequence[str] = (), **settings: str) -> Process:
        """Start one worker, with settings of its own, and return once its lanes answer.

        `inside` is what the command begins with where it runs on another host.
        """
        worker = Process()
        worker.spawn(
            [*inside, str(KLINES), "worker", *options],
            self.env | settings,
            self.folder / "worker.log",
        )
        self.workers.append(worker)
        lanes = len(options[1].split(",")) if options[:1] == ("--queues",) else len(LANES)
        until("the worker's lanes answer", lambda: len(self.lanes_of(worker)) >= lanes)
        return worker

    def lanes_of(self, worker: Process) -> dict[str, int]:
        """Return the queues that a worker serves now, with the process of each."""
        client = self.redis.client()
        try:
            beating = [name.decode().split("|") for name in client.zrange("klines:workers", 0, -1)]
        except RedisError:
            beating = []
        finally:
            client.close()
        living = set(tree(worker.pid))
        return {
            serves.partition("@")[0]: int(pid) for serves, _, pid in beating if int(pid) in living
        }

    def start(self, *arguments: str) -> Command:
        """Start a `klines` command and return at once."""
        command = Command(list(arguments), self.folder, self.env)
        self.commands.append(command)
        return command

    def klines(
        self, *arguments: str, timeout_s: float = 240.0, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, with settings of its own."""
        return WARM.run(
            list(arguments), folder=self.folder, env=self.env | settings, timeout_s=timeout_s
        )

    def download(self, *arguments: str, timeout_s: float = 240.0) -> dict[str, Any]:
        """Run `klines download --json …`, which must succeed, and return its summary."""
        done = self.klines("download", "--json", *arguments, timeout_s=timeout_s)
        assert done.returncode == 0, (
            f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        )
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def detach(self, *arguments: str) -> str:
        """Queue a download and return its run."""
        done = self.klines("download", "--detach", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def status(self, run: str) -> dict[str, Any]:
        """Return what `klines status --json` tells of a run: the summary as far as it has come."""
        done = self.klines("status", run, "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def ended(self, run: str, within_s: float = WITHIN_S) -> dict[str, Any]:
        """Return the summary of a run, waiting for its end."""
        return until(f"run {run} ends", lambda: _if_ended(self.status(run)), within_s)

    def messages(self) -> int:
        """Return how many tasks wait in the fleet's queues or are under way."""
        with self.redis.client() as client:
            return sum(client.llen(lane.queue) for lane in LANES) + client.hlen("unacked")

    def empty(self) -> None:
        """Have the lake hold nothing, and the exchange fail in nothing and remember no call."""
        self.empty_lake()
        self.exchange.archive_faults({})
        self.exchange.faults({})
        self.forget_calls()

    def empty_lake(self) -> None:
        """Have the lake hold nothing; its store keeps its identity, by which workers know it."""
        for entry in Path(self.store_url).glob("*"):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)

    def forget_calls(self) -> None:
        """Have the exchange and its archive remember no call."""
        self.exchange.ask("DELETE", "calls")
        self.exchange.ask("DELETE", "archive")

    def assert_fetches_nothing(self, *request: str) -> dict[str, Any]:
        """Assert that a download requests no row and no file, and return its summary."""
        self.forget_calls()
        told = self.download(*request)
        assert (told["requests"], told["files"]) == (0, 0)
        assert self.exchange.calls() == []
        assert self.exchange.files() == []
        return told

    def assert_nobody_refused(self) -> None:
        """No call was refused for its weight, and no minute holds more than it may."""
        assert self.exchange.refused(429) == 0
        assert not self.exchange.overspent()

    def log(self, size: int = 6000) -> str:
        """Return the end of the workers' log."""
        path = self.folder / "worker.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else ""

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the whole lines of the workers' log.

        A reader sees a line that is being written up to the end of a page of the file.
        """
        whole = (self.folder / "worker.log").read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.split(b"\n") if line]

    def close(self) -> None:
        """Kill all processes at once."""
        for process in (*self.commands, *self.workers, self.exchange, self.redis):
            process.kill_tree()


@contextmanager
def running_fleet(folder: Path, *exchange: str) -> Iterator[Fleet]:
    """Run a fleet with one worker.

    `exchange` are options of the stand-in exchange. Asserts at the end that no call was refused.
    """
    fleet = Fleet(
        folder, Exchange(folder, *exchange), RedisServer(folder / "redis"), str(folder / "store")
    )
    try:
        fleet.start_worker()
        yield fleet
        fleet.assert_nobody_refused()
    finally:
        fleet.close()


def _if_ended(summary: dict[str, Any]) -> dict[str, Any] | None:
    return None if summary["state"] == "running" else summary

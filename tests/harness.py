"""Real processes for tests: a stand-in exchange, a Redis, workers, and the klines command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from redis import Redis, RedisError

from deploy.simulator import truth
from klinefleet.tasks.fleet.lanes import LANES
from klinefleet.workers.coordination.private_redis import answers, die_with_parent, server_binary
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Series
from klinefleet.workers.lake import keys
from tests.processes import ROOT, WITHIN_S, Process, ask, tree, until
from tests.warm_klines import WarmKlines

KLINES = Path(sys.executable).with_name("klines")
#: Real recorded exchange data; tests that need it skip where it is absent.
RECORDED = ROOT.parent / "shared" / "data"
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


class Exchange(Process):
    """The stand-in exchange as a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.spawn(
            [sys.executable, "-m", "deploy.simulator", *options],
            dict(os.environ),
            folder / "exchange.log",
            subprocess.PIPE,
        )
        assert self.process
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url.startswith("http"), (folder / "exchange.log").read_text()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return ask(f"{self.url}/sim/{path}", method, body)

    def books(self) -> dict[str, Any]:
        books: dict[str, Any] = self.ask("GET", "books")
        return books

    def calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self.ask("GET", "calls")
        return calls

    def overspent(self) -> list[dict[str, Any]]:
        """Return the minutes in which more weight was sent than they hold."""
        return [minute for minute in self.books()["minutes"] if minute["weight"] > minute["limit"]]

    def refused(self, status: int) -> int:
        """Return how many calls were answered with 429 or 418 for their weight or in a ban."""
        return sum(minute[f"refused_{status}"] for minute in self.books()["minutes"])

    def pages(self) -> Counter[tuple[str, str, str, str]]:
        """Return how often each page was served in full: (market, symbol, start, end) -> times."""
        good = (
            call
            for call in self.calls()
            if call["status"] == 200 and not call["fault"] and call["end"]
        )
        return Counter(
            (call["market"], call["symbol"], call["start"], call["end"]) for call in good
        )

    def faults(self, rates: dict[str, float], **options: Any) -> None:
        self.ask("PUT", "faults", {"rates": rates, **options} if rates else {})

    def hold_back(self, ms: float) -> None:
        """Hold every answer back for so long from now on: a test sees a run at work however late it
        looks.
        """
        self.ask("PUT", "latency", {"ms": ms})

    def lag_date(self, days: float, answers: int | None = None) -> None:
        """Have the Date header of so many answers with rows, or of all from now on, lie so many
        days behind.
        """
        self.ask("PUT", "date", {"behind_ms": int(days * 86_400_000), "answers": answers})

    def hide_symbols(self, status: int | None = 500) -> None:
        """Answer exchangeInfo with an error from now on; None ends it."""
        self.ask("PUT", "info", {"status": status})

    def files(self) -> list[dict[str, Any]]:
        """Return the calls for files of the archive, not those for its lists."""
        calls = self.ask("GET", "archive")["calls"]
        return [call for call in calls if call["path"].startswith("data/")]

    def archive_faults(self, rates: dict[str, float], **options: Any) -> None:
        self.ask("PUT", "archive", {"rates": rates, **options})

    @property
    def env(self) -> dict[str, str]:
        rest = dict.fromkeys(("KLINES_SPOT_URL", "KLINES_UM_URL", "KLINES_CM_URL"), self.url)
        return rest | {
            "KLINES_ARCHIVE_URL": self.url,
            "KLINES_ARCHIVE_LIST_URL": f"{self.url}/archive-list",
        }


class ObjectStore(Process):
    """The stand-in for S3 as a process of its own."""

    def __init__(self, folder: Path, *host: str) -> None:
        command = [sys.executable, "-m", "tests.object_store", *host]
        self.spawn(command, dict(os.environ), folder / "store.log", subprocess.PIPE)
        assert self.process
        assert self.process.stdout
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url.startswith("http"), (folder / "store.log").read_text()

    @property
    def env(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        return {**keys, "AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1"}

    def faults(self, **wanted: Any) -> None:
        ask(f"{self.url}/-/faults", "PUT", wanted)

    def writes(self) -> list[dict[str, Any]]:
        writes: list[dict[str, Any]] = ask(f"{self.url}/-/writes")
        return writes

    def requests(self) -> dict[str, int]:
        """Return how often each method was asked for; LIST is a listing."""
        requests: dict[str, int] = ask(f"{self.url}/-/requests")
        return requests

    def objects(self) -> dict[str, int]:
        objects: dict[str, int] = ask(f"{self.url}/-/objects")
        return objects


class RedisServer(Process):
    """A real Redis with an append-only file on a socket; it can be stopped, killed and started
    again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.url = f"unix://{folder / 'redis.sock'}"
        self.start()

    def start(self) -> None:
        socket = str(self.folder / "redis.sock")
        arguments = ["--port", "0", "--unixsocket", socket, "--dir", str(self.folder), "--save", ""]
        arguments += [
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--maxmemory-policy",
            "noeviction",
        ]
        self.spawn([server_binary(), *arguments], dict(os.environ), self.folder / "redis.log")
        until("Redis answers", lambda: answers(self.url))

    def client(self) -> Redis:
        return Redis.from_url(self.url)


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
        shutil.rmtree(self.store_url, ignore_errors=True)
        self.exchange.archive_faults({})
        self.exchange.faults({})
        self.forget_calls()

    def forget_calls(self) -> None:
        """Have the exchange and its archive remember no call."""
        self.exchange.ask("DELETE", "calls")
        self.exchange.ask("DELETE", "archive")

    def assert_fetches_nothing(self, *request: str) -> dict[str, Any]:
        """A download asks the exchange for no row, and the archive for no file; returns its
        summary.
        """
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
        path = self.folder / "worker.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else ""

    def close(self) -> None:
        """End everything at once: how a worker ends when it is told to is tested where that is the
        subject.
        """
        for process in (*self.commands, *self.workers, self.exchange, self.redis):
            process.kill_tree()


@contextmanager
def running_fleet(folder: Path, *exchange: str) -> Iterator[Fleet]:
    """Run a fleet with one worker; `exchange` are options of the stand-in exchange, which refused
    nobody in the end.
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


@dataclass(frozen=True)
class Wanted:
    """One request as a user words it, and the check that the lake holds what it asks for: all,
    once, and no more.
    """

    market: str
    symbols: tuple[str, ...]
    start: str
    end: str
    interval: str = "1m"
    source: str = "rest"
    """Which lane is tested; what `auto` makes of a small request is REST as well."""
    kind: str = "klines"

    @property
    def arguments(self) -> tuple[str, ...]:
        series = ("--market", self.market, "--kind", self.kind, "--symbols", ",".join(self.symbols))
        range_ = ("--interval", self.interval, "--start", self.start, "--end", self.end)
        return (*series, *range_, "--source", self.source)

    def truth(self, symbol: str) -> pl.DataFrame:
        """Return what a perfect lake holds of one symbol."""
        return truth_frame(
            self.market, symbol, self.interval, ms_of(self.start), ms_of(self.end), self.kind
        )

    @property
    def klines(self) -> int:
        """How many candles there are."""
        return sum(self.truth(symbol).height for symbol in self.symbols)

    def assert_held(self, fleet: Fleet) -> None:
        """The lake equals the exchange's truth row by row, and nothing is left in the raw zone."""
        for symbol in self.symbols:
            held = lake_frame(fleet.store_url, self.market, symbol, self.interval, self.kind)
            truth = self.truth(symbol)
            assert held.height == truth.height, (
                f"{symbol}: {held.height} rows, {truth.height} exist"
            )
            assert held["open_time"].is_unique().all(), f"{symbol}: a candle is held twice"
            assert held.equals(truth), f"{symbol}: a row differs"
        if not fleet.store_url.startswith("s3://"):
            left = [str(path) for path in Path(fleet.store_url, "raw").rglob("*") if path.is_file()]
            assert not left, f"raw objects were left: {left[:5]}"

    def assert_nothing_is_missing(self, fleet: Fleet) -> None:
        """The same request again asks the exchange for no row, and the archive for no file."""
        fleet.assert_fetches_nothing(*self.arguments)


def _if_ended(summary: dict[str, Any]) -> dict[str, Any] | None:
    return None if summary["state"] == "running" else summary


def ms_of(day: str) -> int:
    """Return a day or moment without a zone, UTC, in ms."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def truth_frame(
    market: str, symbol: str, interval: str, start_ms: int, end_ms: int, kind: str = "klines"
) -> pl.DataFrame:
    """Return what a perfect lake holds of a generated symbol."""
    csv = truth(
        market, symbol, interval, start_ms, end_ms, now_ms=time.time_ns() // 1_000_000, kind=kind
    )
    schema = schema_of(kind_named(kind))
    if not csv:
        return schema.to_frame()
    wire = {name: pl.Int64() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    return pl.read_csv(csv, has_header=False, schema=wire).cast(schema)


def lake_frame(
    store: Path | str, market: str, symbol: str, interval: str, kind: str = "klines"
) -> pl.DataFrame:
    """Return every row the lake holds of a series, read as any user of Polars would, in the files'
    order.
    """
    folder = keys.series_folder(
        "lake", Series(Market(market), kind_named(kind), Interval(interval), symbol)
    )
    if str(store).startswith("s3://"):
        return pl.read_parquet(
            f"{store}/{folder}/*.parquet", storage_options=s3_options(), hive_partitioning=False
        )
    files = sorted((Path(store) / folder).glob("*.parquet"))
    return (
        pl.concat([pl.read_parquet(file) for file in files]) if files else no_rows(kind_named(kind))
    )


def s3_options() -> dict[str, str]:
    """Return what Polars needs to know of the S3 server that the environment names."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
    return {name.lower(): os.environ[name] for name in names if name in os.environ} | {
        "aws_allow_http": "true"
    }

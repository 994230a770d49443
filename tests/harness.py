"""Real processes for tests: a stand-in exchange, a Redis, workers, and the klines command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
from redis import Redis

from deploy.simulator import truth
from workers.lake import keys
from workers.model import Interval, Kind, Market, Series
from workers.private_redis import answers, die_with_parent, server_binary
from workers.schema import SCHEMAS

ROOT = Path(__file__).resolve().parents[1]
KLINES = Path(sys.executable).with_name("klines")
#: Real recorded exchange data; tests that need it skip where it is absent.
RECORDED = ROOT.parent / "shared" / "data"


def until(what: str, holds: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Return what `holds` returns as soon as that is true; AssertionError after `within_s`."""
    ends = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < ends, f"{what}: not within {within_s} s"
        time.sleep(0.02)
    return value


class Process:
    """A child in its own session, ended with the test however that ends."""

    process: subprocess.Popen[bytes] | None = None

    def spawn(self, arguments: list[str], env: dict[str, str], log: Path, stdout: int | None = None) -> None:
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                arguments,
                cwd=ROOT,
                env=env,
                stdout=out if stdout is None else stdout,
                stderr=out,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def stop(self, number: int = signal.SIGTERM, within_s: float = 30.0) -> None:
        """Tell it to end and wait; one that does not is killed."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


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
        request = urllib.request.Request(
            f"{self.url}/sim/{path}", method=method, data=None if body is None else json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def books(self) -> dict[str, Any]:
        books: dict[str, Any] = self.ask("GET", "books")
        return books

    def calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self.ask("GET", "calls")
        return calls

    def faults(self, rates: dict[str, float], **options: Any) -> None:
        self.ask("PUT", "faults", {"rates": rates, **options} if rates else {})

    @property
    def env(self) -> dict[str, str]:
        return dict.fromkeys(("KLINES_SPOT_URL", "KLINES_UM_URL", "KLINES_CM_URL"), self.url)


class RedisServer(Process):
    """A real Redis with an append-only file on a socket; it can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.url = f"unix://{folder / 'redis.sock'}"
        self.start()

    def start(self) -> None:
        socket = str(self.folder / "redis.sock")
        arguments = ["--port", "0", "--unixsocket", socket, "--dir", str(self.folder), "--save", ""]
        arguments += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
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

    @property
    def env(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("KLINES_")}
        ours = {"KLINES_REDIS_URL": self.redis.url, "KLINES_STORE_URL": self.store_url}
        return {**clean, **ours, **self.exchange.env, **self.settings}

    def start_worker(self, *options: str) -> Process:
        """Start one worker and return once its lanes answer."""
        worker = Process()
        lanes_before = self.lanes()
        worker.spawn([str(KLINES), "worker", *options], self.env, self.folder / "worker.log")
        self.workers.append(worker)
        lanes = len(options[1].split(",")) if options[:1] == ("--queues",) else 4
        until("the worker's lanes answer", lambda: self.lanes() >= lanes_before + lanes)
        return worker

    def lanes(self) -> int:
        """Lanes whose heart has beaten within the last seconds."""
        client = self.redis.client()
        try:
            seconds, micros = client.time()
            return int(client.zcount("klines:workers", seconds * 1000 + micros // 1000, "+inf"))
        finally:
            client.close()

    def klines(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [str(KLINES), *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=timeout_s
        )

    def download(self, *arguments: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """Run `klines download --json …`, which must succeed, and return its summary."""
        done = self.klines("download", "--json", *arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def log(self, size: int = 6000) -> str:
        path = self.folder / "worker.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else ""

    def close(self) -> None:
        for process in (*self.workers, self.exchange, self.redis):
            process.stop()


def truth_frame(market: str, symbol: str, interval: str, start_ms: int, end_ms: int) -> pl.DataFrame:
    """Return what a perfect lake holds of a generated symbol."""
    csv = truth(market, symbol, interval, start_ms, end_ms, now_ms=time.time_ns() // 1_000_000)
    schema = SCHEMAS[Kind.KLINES]
    if not csv:
        return schema.to_frame()
    wire = {name: pl.Int64() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    return pl.read_csv(csv, has_header=False, schema=wire).cast(schema)


def lake_frame(store: Path, market: str, symbol: str, interval: str) -> pl.DataFrame:
    """Return every row the lake holds of a series, read as any user of Polars would, in the files' order."""
    series = Series(Market(market), Kind.KLINES, Interval(interval), symbol)
    files = sorted((store / keys.series_folder("lake", series)).glob("*.parquet"))
    return pl.concat([pl.read_parquet(file) for file in files]) if files else SCHEMAS[Kind.KLINES].to_frame()

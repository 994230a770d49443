"""The servers that fleets of tests need: an exchange, an S3 store and a Redis, each a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from redis import Redis

from klinefleet.workers.coordination.private_redis import is_reachable, server_binary
from tests.processes import Process, ask, until


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
        """Delay every answer by `ms` from now on, so that a test sees a run at work."""
        self.ask("PUT", "latency", {"ms": ms})

    def neighbour(self, address: str, profile: Any, pool: str = "futures") -> None:
        """Let another program make calls from an address from now on; None ends it."""
        self.ask("PUT", "foreign", {"address": address, "pool": pool, "profile": profile})

    def lag_date(self, days: float, answers: int | None = None) -> None:
        """Set the Date header back by `days`.

        Of the next `answers` that have rows, or of all.
        """
        self.ask("PUT", "date", {"behind_ms": int(days * 86_400_000), "answers": answers})

    def hide_symbols(self, status: int | None = 500, answers: int | None = None) -> None:
        """Answer exchangeInfo with an error from now on, or so many times; None ends it."""
        self.ask("PUT", "info", {"status": status, "answers": answers})

    def misstate(self, **untrue: dict[str, Any] | None) -> None:
        """Have exchangeInfo say other things of some symbols, or None; without any, the truth."""
        self.ask("PUT", "info", {"untrue": untrue})

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
    """A real Redis with an append-only file, on a socket.

    It can be stopped, killed and started again.
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
        until("Redis answers", lambda: is_reachable(self.url))

    def client(self) -> Redis:
        return Redis.from_url(self.url)

"""Workers on two hosts, with Redis and S3 on a third: they finish one run together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from klinefleet.workers.coordination.private_redis import is_reachable, server_binary
from tests.expected import Wanted
from tests.harness import Fleet
from tests.processes import Process, until
from tests.servers import Exchange, ObjectStore, RedisServer

#: The address at which the third host serves, and the links to it: name of the host -> the
#: network's first three parts.
SERVES = "10.93.0.1"
HOSTS = {"one": "10.93.1", "two": "10.93.2"}
#: The test's own way to the third host, to ask the stand-in what it counted.
OWN = "10.93.3"
#: More calls than the few that are not for rows.
ASKED_OF_MARKETS = 4
WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-03-01")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """Three network namespaces: two with workers, joined to one with the servers.

    Gone with the partition.
    """

    def __init__(self) -> None:
        self._tag = f"klines{os.getpid() % 10_000}"
        self._made: list[str] = []

    def name(self, host: str) -> str:
        return f"{self._tag}{host}"

    def __enter__(self) -> Hosts:
        try:
            for host in ("hub", *HOSTS):
                ip("netns", "add", self.name(host))
                self._made.append(self.name(host))
                ip("-n", self.name(host), "link", "set", "lo", "up")
            ip("-n", self.name("hub"), "address", "add", f"{SERVES}/32", "dev", "lo")
            for host, network in HOSTS.items():
                self._join(network, self.name(host))
            self._join(OWN)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def _join(self, network: str, host: str = "") -> None:
        """Lay a cable from the hub to a host, or to the test itself."""
        near, far = f"{self._tag[6:]}n{network[-1]}", f"{self._tag[6:]}f{network[-1]}"
        at_far = ["-n", host] if host else []
        peer = ["netns", host] if host else []
        ip("-n", self.name("hub"), "link", "add", near, "type", "veth", "peer", "name", far)
        ip("-n", self.name("hub"), "link", "set", far, *(peer or ["netns", str(os.getpid())]))
        ip("-n", self.name("hub"), "address", "add", f"{network}.1/30", "dev", near)
        ip("-n", self.name("hub"), "link", "set", near, "up")
        ip(*at_far, "address", "add", f"{network}.2/30", "dev", far)
        ip(*at_far, "link", "set", far, "up")
        ip(*at_far, "route", "add", f"{SERVES}/32", "via", f"{network}.1")

    def inside(self, host: str) -> list[str]:
        """Return what a command begins with to run on a host."""
        return ["ip", "netns", "exec", self.name(host)]


def can_make_hosts() -> bool:
    """Whether this user may make network namespaces here."""
    try:
        with Hosts():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


class OnHub(Process):
    """A server on the third host."""

    prefix: list[str]

    def spawn(
        self, arguments: list[str], env: dict[str, str], log: Path, stdout: int | None = None
    ) -> None:
        super().spawn([*self.prefix, *arguments], env, log, stdout)


class HubExchange(OnHub, Exchange):
    pass


class HubStore(OnHub, ObjectStore):
    pass


class HubRedis(OnHub, RedisServer):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"redis://{SERVES}:6390/0"
        arguments = [
            "--bind",
            SERVES,
            "--port",
            "6390",
            "--protected-mode",
            "no",
            "--dir",
            str(folder),
            "--save",
            "",
        ]
        self.spawn([server_binary(), *arguments], dict(os.environ), folder / "redis.log")
        until("Redis answers", lambda: is_reachable(self.url))


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if not sys.platform.startswith("linux") or not shutil.which("ip"):
        pytest.skip("needs Linux and the `ip` command (iproute2)")
    if not can_make_hosts():
        pytest.skip("this user may not make network namespaces")
    with Hosts() as hosts:
        OnHub.prefix = hosts.inside("hub")
        yield hosts


@pytest.fixture
def fleet(hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with ExitStack() as stack:
        exchange = stack.enter_context(
            HubExchange(tmp_path, "--host", SERVES, "--latency-ms", "60")
        )
        store = stack.enter_context(HubStore(tmp_path, SERVES))
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        fleet = Fleet(
            tmp_path,
            exchange,
            stack.enter_context(HubRedis(tmp_path)),
            "s3://lake",
            {"KLINES_SLOTS": "6"},
        )
        for host in HOSTS:
            fleet.start_worker(inside=hosts.inside(host), KLINES_EGRESS=host)
        yield fleet
        fleet.close()


def calls_by_host(fleet: Fleet) -> list[int]:
    """Return how many calls each host has made."""
    minutes = fleet.exchange.books()["minutes"]
    return [
        sum(one["calls"] for one in minutes if one["address"] == f"{network}.2")
        for network in HOSTS.values()
    ]


def test_workers_on_two_hosts_finish_one_run_together(fleet: Fleet) -> None:
    # Who takes how many of some twenty windows is up to the machine; held back so long, none takes
    # all in one go.
    fleet.exchange.hold_back(1_500)
    command = fleet.start("download", *WANTED.arguments)
    until("both hosts work", lambda: min(calls_by_host(fleet)) > ASKED_OF_MARKETS)
    fleet.exchange.hold_back(60)
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    WANTED.assert_held(fleet)
    assert not fleet.exchange.overspent()
    WANTED.assert_nothing_is_missing(fleet)

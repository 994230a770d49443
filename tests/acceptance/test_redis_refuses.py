"""A Redis that refuses writes: one line names the reason, reading works, and lanes wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.expected import Wanted
from tests.harness import Fleet
from tests.processes import until
from tests.servers import Exchange, RedisServer

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-02-01")
SLOW_MS, SOON_MS = 1_000, 20
#: Lines of six lanes for one failure that lasts: a few at its beginning and at its end.
MOST_LINES = 6 * 15

Spoil = Callable[[Redis, bool], None]


def full(admin: Redis, on: bool) -> None:
    admin.config_set("maxmemory", 1 if on else 0)


def a_replica(admin: Redis, on: bool) -> None:
    admin.execute_command("REPLICAOF", *(("127.0.0.1", "1") if on else ("NO", "ONE")))


def with_few_rights(admin: Redis, on: bool) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "-@write" if on else "+@all")


WAYS: dict[Spoil, str] = {
    full: "is full",
    a_replica: "is a replica",
    with_few_rights: "does not let this user",
}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose Redis is its own: no other test meets what is done to it."""
    exchange = Exchange(tmp_path, "--latency-ms", str(SOON_MS))
    fleet = Fleet(tmp_path, exchange, RedisServer(tmp_path / "redis"), str(tmp_path / "store"))
    yield fleet
    fleet.close()


@pytest.fixture
def admin(fleet: Fleet) -> Iterator[Redis]:
    """Somebody who may do everything, whatever the fleet may."""
    with fleet.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "admin", "on", ">word", "~*", "&*", "+@all")
    with Redis.from_url(fleet.redis.url, username="admin", password="word") as client:
        yield client


@pytest.mark.parametrize("spoil", WAYS, ids=lambda spoil: spoil.__name__)
def test_a_fleet_waits_for_a_redis_that_refuses_and_goes_on(
    fleet: Fleet, admin: Redis, spoil: Spoil
) -> None:
    worker = fleet.start_worker()
    fleet.klines("catalog", "update", "--market", "spot")
    lanes, quiet = fleet.lanes_of(worker), len(fleet.log_lines())
    calls = len(fleet.exchange.calls())
    fleet.exchange.hold_back(SLOW_MS)
    command = fleet.start("download", "--json", *WANTED.arguments)
    until("it is at work", lambda: len(fleet.exchange.calls()) >= calls + 4)
    spoil(admin, True)
    until("lanes notice", lambda: WAYS[spoil] in fleet.log(60_000))
    for question in (["status"], ["workers"], ["catalog", "list", "--market", "spot"]):
        done = fleet.klines(*question)
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or (question == ["workers"] and done.returncode == 1)
    refused = fleet.klines("download", *WANTED.arguments)
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert WAYS[spoil] in line
    assert line.endswith("nothing was queued")
    spoil(admin, False)
    fleet.exchange.hold_back(SOON_MS)
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    assert json.loads(done.stdout)["state"] == "complete"
    assert fleet.lanes_of(worker) == lanes, "a lane ended"
    lines = fleet.log_lines()[quiet:]
    assert len(lines) <= MOST_LINES
    assert not [line for line in lines if "exception" in line]
    WANTED.assert_held(fleet)

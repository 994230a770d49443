"""A worker and a command of another store: one line that names both, before the first call."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.refusals import assert_refused, download
from tests.harness import Fleet
from tests.processes import until

JANUARY = ("--market", "um", "--symbols", "BTCUSDT", "--interval", "1d", "--start", "2024-01-01")


@pytest.fixture
def own(fleet_of: Callable[..., Fleet]) -> Fleet:
    """A fleet of its own: these tests change which store it serves."""
    fleet = fleet_of("--symbols", "4")
    fleet.start_worker()
    return fleet


def store_id(store_url: str | Path) -> str:
    identity: dict[str, str] = json.loads(Path(store_url, "klinefleet.json").read_text())
    return identity["id"]


def test_a_worker_or_a_command_of_another_store_is_refused_before_the_first_call(
    own: Fleet, tmp_path: Path
) -> None:
    other = replace(own, store_url=str(tmp_path / "other"), workers=[], commands=[])
    names = (own.store_url, store_id(own.store_url), other.store_url)
    own.forget_calls()
    for command in (
        ["worker"],
        download(),
        download("--detach"),
        ["verify", "--revisions", "--market", "um", "--symbols", "BTCUSDT"],
        ["catalog", "update", "--detach"],
        ["read", *JANUARY, "--end", "2024-01-03", "--fetch"],
    ):
        assert_refused(other, *command, words=names)
    assert own.messages() == 0
    assert own.exchange.books()["minutes"] == [], "not even its symbols were asked for"
    assert own.store_url in own.klines("workers").stdout.splitlines()[-1]
    assert own.klines(*download("--dry-run")).returncode == 0
    assert own.exchange.books()["minutes"] != [], "this is where a call would show"


def test_lanes_tell_their_store_and_runs_the_id_of_theirs(own: Fleet) -> None:
    run = own.detach(*JANUARY, "--end", "2024-02-01")
    told = own.ended(run)
    assert (told["state"], told["store"]) == ("complete", store_id(own.store_url))
    assert f"store {own.store_url} (id {told['store']})" in own.log()


def test_lanes_whose_redis_was_taken_by_the_fleet_of_another_store_take_no_tasks_until_it_left(
    own: Fleet, tmp_path: Path
) -> None:
    ours = own.lanes_of(own.workers[0])
    for pid in ours.values():
        os.kill(pid, signal.SIGSTOP)
    with own.redis.client() as redis:
        redis.flushall()
    other = replace(own, store_url=str(tmp_path / "other"), workers=[], commands=[])
    try:
        newcomer = other.start_worker()
    finally:
        for pid in ours.values():
            os.kill(pid, signal.SIGCONT)
    until("each lane says so", lambda: own.log(100_000).count("taking no tasks") >= len(ours))
    assert store_id(other.store_url) in own.log(100_000)
    run = other.detach(*JANUARY, "--end", "2024-02-01")
    assert other.ended(run)["state"] == "complete"
    assert not list(Path(own.store_url).glob("lake/**/*.parquet")), "work went to the wrong store"
    newcomer.stop()
    until("the store is theirs again", lambda: own.store_url in own.klines("workers").stdout)
    assert own.ended(own.detach(*JANUARY, "--end", "2024-02-01"))["state"] == "complete"


def test_a_local_run_needs_no_fleet_of_its_store(own: Fleet, tmp_path: Path) -> None:
    other = replace(own, store_url=str(tmp_path / "other"), workers=[], commands=[])
    told = other.download("--local", *JANUARY, "--end", "2024-02-01")
    assert told["store"] == store_id(other.store_url) != store_id(own.store_url)


def test_a_fleet_that_was_stopped_can_be_started_at_once_with_a_store_that_was_emptied(
    own: Fleet,
) -> None:
    before = store_id(own.store_url)
    own.workers.pop().stop()
    shutil.rmtree(own.store_url)
    own.start_worker()
    assert store_id(own.store_url) != before
    assert own.ended(own.detach(*JANUARY, "--end", "2024-02-01"))["state"] == "complete"

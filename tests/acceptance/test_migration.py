"""`klines migrate` under SIGKILL: a lake of format 1 ends equal row by row, and reads so before."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.harness import Fleet
from tests.old_lakes import assert_true, copy_lake, files_of
from tests.processes import until

#: Kills of a migration before it may end; each has longer than the one before.
KILLS = 12


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    fleet = fleet_of()
    copy_lake(Path(fleet.store_url))
    return fleet


def test_nothing_writes_into_a_lake_of_format_1_and_each_command_says_what_to_do(
    fleet: Fleet,
) -> None:
    before = files_of(Path(fleet.store_url))
    request = ("--market", "um", "--symbols", "BTCUSDT", "--start", "2024-01-01")
    for command in (
        ("download", *request),
        ("download", "--local", *request),
        ("download", "--detach", *request),
        ("verify", "--local", "--repair"),
        ("read", "--fetch", "--local", *request, "--end", "2024-01-02"),
    ):
        done = fleet.klines(*command)
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert done.stderr.count("\n") == 1, (command, done.stderr)
        assert "is of format 1" in done.stderr
        assert "klines migrate" in done.stderr
    assert files_of(Path(fleet.store_url)) == before
    assert fleet.exchange.calls() == []


def test_a_migration_here_that_is_killed_again_and_again_ends_equal_row_by_row(
    fleet: Fleet,
) -> None:
    random = Random(13)
    for kill in range(KILLS):
        command = fleet.start("migrate", "--local")
        until(
            "it is under way or done",
            lambda command=command: not command.runs or _has_begun(fleet),
        )
        killed_after_ms = random.uniform(0, 60 * (kill + 1))
        until("its time is over", _elapsed(killed_after_ms), within_s=30)
        command.kill_tree()
        assert_true(fleet.store_url)
    done = fleet.klines("migrate", "--local", "--json")
    assert done.returncode == 0, done.stderr
    assert_true(fleet.store_url)
    assert fleet.klines("verify", "--local").returncode == 0


def test_a_migration_by_workers_that_are_killed_ends_equal_and_the_lake_is_written_then(
    fleet: Fleet,
) -> None:
    fleet.start_worker("--queues", "compact")
    command = fleet.start("migrate", "--json")
    for _ in range(4):
        until("more is rewritten", lambda: not command.runs or _has_begun(fleet))
        fleet.workers.pop().kill_tree()
        assert_true(fleet.store_url)
        fleet.start_worker("--queues", "compact")
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    told = json.loads(done.stdout)
    assert (told["failed"], told["set_aside"]) == ({}, {})
    assert_true(fleet.store_url)
    assert fleet.klines("migrate", "--local").stdout.endswith("nothing to migrate\n")
    summary = fleet.klines(
        "download", "--local", "--json", "--market", "um", "--symbols", "SOLUSDT",
        "--interval", "1h", "--start", "2024-01-01", "--end", "2024-03-01",
    )  # fmt: skip
    assert summary.returncode == 0, summary.stderr


def _has_begun(fleet: Fleet) -> bool:
    return (Path(fleet.store_url) / "klinefleet.json").exists()


def _elapsed(ms: float) -> Callable[[], bool]:
    ends = time.monotonic() + ms / 1000
    return lambda: time.monotonic() > ends

"""Interrupted runs: what was fetched is kept, and the next run goes on from there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from klinefleet.tasks.fleet.lanes import LANES
from tests.acceptance.beats import await_beats
from tests.expected import Wanted
from tests.harness import Command, Fleet
from tests.processes import alive, tree, until

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-04-01")
SLOTS = 10
#: Held back so long, the work takes all slots near half a minute: it is never over before it is
#: broken off.
SLOW_MS, SOON_MS = 1_000, 20
#: Windows under way at the cancel (a third of the slots, at least four) of at most nine pages each.
MOST_REPEATED_KLINES = 4 * 9 * 1000


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    return fleet_of("--latency-ms", str(SLOW_MS), KLINES_SLOTS=str(SLOTS))


def begun(fleet: Fleet, *options: str) -> Command:
    """Return the command once a part of its klines has been served."""
    command = fleet.start("download", *options, *WANTED.arguments)
    until("klines arrive", lambda: fleet.exchange.books()["klines"] > 15_000)
    return command


def assert_the_rest_is_fetched(fleet: Fleet, *options: str) -> None:
    """The same command again ends complete, and has fetched little twice."""
    fleet.exchange.hold_back(SOON_MS)
    fleet.download(*options, *WANTED.arguments)
    served = fleet.exchange.books()["klines"]
    assert WANTED.klines <= served <= WANTED.klines + MOST_REPEATED_KLINES
    WANTED.assert_held(fleet)
    assert fleet.exchange.refused(429) == 0
    assert not fleet.exchange.overspent()


def messages(fleet: Fleet) -> int:
    """Return how many tasks wait in the fleet's queues or are under way."""
    with fleet.redis.client() as client:
        return sum(client.llen(lane.queue) for lane in LANES) + client.hlen("unacked")


def test_ctrl_c_and_the_same_command_again_fetches_only_what_was_missing(fleet: Fleet) -> None:
    fleet.start_worker()
    command = begun(fleet)
    command.interrupt()
    done = command.result()
    assert done.returncode == 1
    assert "cancelled" in done.stderr
    assert "Traceback" not in done.stderr
    assert_the_rest_is_fetched(fleet)
    WANTED.assert_nothing_is_missing(fleet)


def test_a_run_cancelled_by_its_id_ends_at_once_and_can_be_repeated(fleet: Fleet) -> None:
    fleet.start_worker()
    run = fleet.klines("download", "--detach", *WANTED.arguments).stdout.strip()
    until("klines arrive", lambda: fleet.exchange.books()["klines"] > 15_000)
    cancelled = fleet.klines("cancel", run)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"run {run} is cancelled\n")
    until("what was under way comes in", lambda: not messages(fleet))
    calls = fleet.exchange.books()["calls"]
    fleet.exchange.hold_back(SOON_MS)
    # Whoever would ask again does so at its lane's chores: two beats begin and end them once.
    await_beats(fleet, 2)
    assert fleet.exchange.books()["calls"] == calls
    assert_the_rest_is_fetched(fleet)


def test_a_command_whose_run_another_cancels_says_so_and_ends(fleet: Fleet) -> None:
    fleet.start_worker()
    command = begun(fleet)
    client = fleet.redis.client()
    run = client.smembers("klines:active").pop().decode()
    client.close()
    cancelled = fleet.klines("cancel", run)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"run {run} is cancelled\n")
    done = command.result()
    assert done.returncode == 1, done.stdout
    assert "cancelled" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_a_local_run_broken_off_leaves_no_process_and_goes_on_when_repeated(
    fleet: Fleet, number: signal.Signals
) -> None:
    command = begun(fleet, "--local")
    until("the command, a Redis and three lanes run", lambda: len(tree(command.pid)) >= 5)
    family = tree(command.pid)
    os.kill(command.pid, number)
    done = command.result()
    assert done.returncode == (1 if number != signal.SIGKILL else -signal.SIGKILL)
    if number != signal.SIGKILL:
        assert "Traceback" not in done.stderr, done.stderr
    until("its processes end", lambda: not [pid for pid in family if alive(pid)])
    if number == signal.SIGKILL:
        assert_the_rest_is_fetched(fleet, "--local")


def test_a_local_run_interrupted_as_it_starts_leaves_no_process(fleet: Fleet) -> None:
    for moment, has_come in {
        "its Redis starts": lambda command: len(tree(command.pid)) > 1,
        "its first lane starts": lambda command: len(tree(command.pid)) > 2,
        "its lanes have started": lambda command: len(tree(command.pid)) >= 5,
        "its first call is made": lambda _: fleet.exchange.calls(),
    }.items():
        fleet.forget_calls()
        command = fleet.start("download", "--local", *WANTED.arguments)
        until(moment, lambda command=command, has_come=has_come: has_come(command))
        family = tree(command.pid)
        command.interrupt()
        done = command.result()
        # A lane that was just starting may still complain that its Redis is gone; the command
        # itself gives up cleanly.
        assert done.returncode == 1, done.stderr
        until("its processes end", lambda family=family: not [pid for pid in family if alive(pid)])
    assert not list(Path(fleet.store_url).rglob(".writable*"))

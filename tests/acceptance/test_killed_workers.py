"""Workers that are killed: their work is done by others, and nothing is lost or held twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.expected import Wanted
from tests.harness import Fleet
from tests.processes import until

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT", "BNBUSDT"), "2024-01-01", "2024-04-01")
#: Held back so long, the work takes ten slots more than half a minute: it is never over before the
#: last kill.
SLOW_MS, SOON_MS = 1_000, 20


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    fleet = fleet_of("--latency-ms", str(SLOW_MS), KLINES_SLOTS="10")
    fleet.start_worker()
    return fleet


def test_workers_killed_again_and_again_lose_no_kline_and_overspend_no_minute(fleet: Fleet) -> None:
    command = fleet.start("download", "--json", *WANTED.arguments)
    for enough in (20_000, 60_000):
        until("more arrives", lambda enough=enough: fleet.exchange.books()["klines"] > enough)
        assert command.runs, "the run ended before the kill: make it longer"
        fleet.workers.pop().kill_tree()
        fleet.start_worker()
    fleet.exchange.hold_back(SOON_MS)
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    WANTED.assert_held(fleet)
    assert fleet.exchange.refused(429) == fleet.exchange.refused(418) == 0
    assert not fleet.exchange.overspent()
    WANTED.assert_nothing_is_missing(fleet)


def test_lanes_killed_in_the_middle_are_started_again_by_their_worker(fleet: Fleet) -> None:
    worker = fleet.workers[0]
    command = fleet.start("download", "--json", *WANTED.arguments)
    until("klines arrive", lambda: fleet.exchange.books()["klines"] > 20_000)
    for queue in ("rest.spot", "plan", "compact"):
        killed = fleet.lanes_of(worker)[queue]
        os.kill(killed, signal.SIGKILL)
        until(
            f"{queue} is back",
            lambda queue=queue, killed=killed: fleet.lanes_of(worker).get(queue, killed) != killed,
        )
    assert command.runs, "the run ended before the kill: make it longer"
    fleet.exchange.hold_back(SOON_MS)
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    WANTED.assert_held(fleet)
    assert fleet.exchange.refused(429) == 0
    assert not fleet.exchange.overspent()
    WANTED.assert_nothing_is_missing(fleet)

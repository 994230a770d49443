"""Redis stopped, started and killed under a run: the fleet waits for it and goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from klinefleet.tasks.fleet.lanes import LANES
from tests.expected import Wanted
from tests.harness import Fleet
from tests.processes import until

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT", "BNBUSDT"), "2024-01-01", "2024-03-01")
#: Held back so long, the work takes eight slots more than half a minute: it is never over before
#: Redis has been away.
SLOW_MS, SOON_MS = 1_000, 20


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    fleet = fleet_of("--latency-ms", str(SLOW_MS), KLINES_SLOTS="8")
    fleet.start_worker()
    return fleet


def test_a_redis_that_is_stopped_twice_and_killed_once_costs_no_kline(fleet: Fleet) -> None:
    command, served = fleet.start("download", "--json", *WANTED.arguments), 0
    for number, away_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0), (signal.SIGTERM, 0.2)):
        served += 12_000
        until("klines arrive", lambda enough=served: fleet.exchange.books()["klines"] > enough)
        fleet.redis.stop(number)
        # Away for longer than a client tries by itself, and for less. Only real time is that long:
        # nothing tells from outside how often a client has tried. However long it really takes, the
        # same must hold.
        time.sleep(away_s)
        assert command.runs, "the command gave up"
        fleet.redis.start()
    fleet.exchange.hold_back(SOON_MS)
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    assert "Traceback" not in done.stderr
    assert "ended on its own" not in fleet.log(10_000_000), "a lane was lost with the connection"
    WANTED.assert_held(fleet)
    assert fleet.exchange.refused(429) == 0
    assert not fleet.exchange.overspent()
    WANTED.assert_nothing_is_missing(fleet)


def test_a_redis_that_forgot_everything_costs_no_kline_that_is_held(fleet: Fleet) -> None:
    """What the lake holds is told by the lake alone."""
    wanted = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-02-01")
    fleet.exchange.hold_back(SOON_MS)
    fleet.download(*wanted.arguments)
    client = fleet.redis.client()
    client.flushall()
    client.close()
    until("the lanes beat again", lambda: len(fleet.lanes_of(fleet.workers[0])) == len(LANES))
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)

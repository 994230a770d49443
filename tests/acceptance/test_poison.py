"""Work that kills each worker that takes it: it fails, the run ends, and all else goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace

from klinefleet.workers.domain.redis_keys import OWNERS
from tests.expected import Wanted
from tests.harness import Fleet
from tests.processes import until

WANTED = Wanted("spot", ("BTCUSDT",), "2024-01-01", "2024-01-03")
HELD_BACK_MS, SOON_MS = 60_000, 5
#: A lease holds for eight seconds after a death, and work is missed twice before it is lost.
A_DEATH_S = 40.0


def test_a_window_that_kills_its_workers_ends_its_run_and_no_other(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(KLINES_TIMEOUT_S="50")
    worker = fleet.start_worker()
    # The symbol's first candle is asked for before everything is held back.
    fleet.download(*replace(WANTED, end="2024-01-02").arguments)
    fleet.exchange.hold_back(HELD_BACK_MS)
    command = fleet.start("download", "--json", *WANTED.arguments)
    killed = set[bytes]()
    with fleet.redis.client() as client:
        for number in range(3):

            def holders(before: frozenset[bytes] = frozenset(killed)) -> set[bytes]:
                owners = client.hgetall(OWNERS).items()
                return {by for lease, by in owners if lease.startswith(b"fetch|")} - before

            until(f"worker {number} has the window", holders, A_DEATH_S)
            killed |= holders()
            lane = fleet.lanes_of(worker)["rest.spot"]
            os.kill(lane, signal.SIGKILL)
            until(
                "the lane is back",
                lambda lane=lane: fleet.lanes_of(worker).get("rest.spot", lane) != lane,
            )
    until("the run ends", lambda: not command.runs, A_DEATH_S)
    done = command.result()
    assert done.returncode == 1, done.stderr + fleet.log()
    (reason,) = json.loads(done.stdout)["failed"].values()
    assert reason.startswith("its worker was killed 3 times, the last time at ")
    fleet.exchange.hold_back(SOON_MS)
    fleet.download(*WANTED.arguments)
    WANTED.assert_held(fleet)


def test_messages_that_nobody_can_read_hold_up_no_lane(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of()
    worker = fleet.start_worker()
    lanes = fleet.lanes_of(worker)
    with fleet.redis.client() as client:
        for queue in lanes:
            for item in (b"garbage", b"", b"\xff\x00", b"[]", b"{}", b'{"properties": {}}'):
                client.lpush(queue, item)
        until("they are set aside", lambda: client.llen("klines:unreadable") == 6 * len(lanes))
    fleet.download(*WANTED.arguments)
    WANTED.assert_held(fleet)
    assert fleet.lanes_of(worker) == lanes, "a lane ended of a message"
    assert "Traceback" not in fleet.log()

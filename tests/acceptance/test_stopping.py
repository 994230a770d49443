"""A worker that is told to stop lets go at once, and the next one goes on."""

from __future__ import annotations

from collections.abc import Callable

from tests.expected import Wanted
from tests.harness import Fleet
from tests.processes import until

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-04-01")
#: Held back so long, the work takes six slots most of a minute.
SLOW_MS = 1_000


def test_a_worker_told_to_stop_hands_its_work_to_the_next(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of("--latency-ms", str(SLOW_MS), KLINES_SLOTS="6")
    worker = fleet.start_worker()
    command = fleet.start("download", *WANTED.arguments)
    until("work goes on", lambda: fleet.exchange.books()["klines"] > 10_000)
    worker.stop()
    assert fleet.exchange.books()["klines"] < WANTED.klines, "it did all the work before it stopped"
    fleet.exchange.hold_back(20)
    fleet.start_worker()
    assert command.result().returncode == 0
    WANTED.assert_held(fleet)
    assert fleet.exchange.overspent() == []

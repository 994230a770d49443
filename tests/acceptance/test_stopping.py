"""A worker that is told to stop lets go at once, and the next one goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.harness import Fleet, Wanted
from tests.processes import until

WANTED = Wanted("spot", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-04-01")


def test_a_worker_told_to_stop_hands_its_work_to_the_next(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    worker = fleet.start_worker()
    command = fleet.start("download", *WANTED.arguments)
    until("work goes on", lambda: fleet.exchange.books()["klines"] > 40_000)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 15
    fleet.start_worker()
    assert command.result(120).returncode == 0
    WANTED.assert_held(fleet)
    assert fleet.exchange.overspent() == []

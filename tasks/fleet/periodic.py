"""Runs a lane's periodic jobs in a thread of its own, so that they never delay the heartbeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from klinefleet.workers.coordination.redis_faults import told
from klinefleet.workers.support.log import Trouble

logger = logging.getLogger(__name__)

#: Seconds between two rounds.
PAUSE_S = 2.0


def run_periodically(
    jobs: list[Callable[[], None]],
    stopped: threading.Event | None = None,
    pause_s: float = PAUSE_S,
) -> None:
    """Run all jobs, pause and repeat until `stopped` is set; one that fails is run next round."""
    stopped = stopped or threading.Event()
    troubles = [Trouble(logger, "periodic job") for _ in jobs]
    while not stopped.is_set():
        for job, trouble in zip(jobs, troubles, strict=True):
            try:
                job()
                trouble.end()
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the next round comes
                trouble.note(told(error))
        stopped.wait(pause_s)

"""Runs a lane's periodic jobs in a thread of its own, so that they never delay the heartbeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.support.log import RepeatedFailure

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
    failures = [RepeatedFailure(logger, f"periodic job {_name(job)}") for job in jobs]
    while not stopped.is_set():
        for job, failure in zip(jobs, failures, strict=True):
            try:
                job()
                failure.succeeded()
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the next round comes
                failure.failed(describe(error))
        stopped.wait(pause_s)


def _name(job: Callable[[], None]) -> str:
    """Return the name of a job's function, which may have arguments bound to it."""
    return str(getattr(getattr(job, "func", job), "__name__", "unnamed")).lstrip("_")

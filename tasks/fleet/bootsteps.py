"""Celery boot steps of a lane: a heartbeat from the worker's own loop, and the consumer gate.

The gate stops a lane from taking tasks while the exchange has closed its pool to this address.
Workers at other addresses take them.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from klinefleet.workers.coordination.liveness import TOUCH_INTERVAL_S, HealthFile

logger = logging.getLogger(__name__)

#: Seconds between two checks of whether the pool is closed.
POLL_S = 0.5


def beat_in_loop(app: Any, health_file: HealthFile) -> None:
    """Add a heartbeat to the worker's event loop; it restarts after each reconnect."""
    from celery.worker import state

    def beat() -> None:
        # A copy, as threads begin tasks meanwhile. If one does so during the copy, skip this beat.
        try:
            requests = list(state.active_requests)
        except RuntimeError:
            return
        health_file.touch(request.time_start for request in requests)

    class Beat(bootsteps.StartStopStep):  # type: ignore[misc]
        # The first beat comes when the worker can take tasks, not before.
        requires = ("celery.worker.consumer.tasks:Tasks",)
        _timer: Any = None

        def start(self, consumer: Any) -> None:
            beat()
            self._timer = consumer.timer.call_repeatedly(TOUCH_INTERVAL_S, beat)

        def stop(self, consumer: Any) -> None:
            if self._timer:
                self._timer.cancel()

    app.steps["consumer"].add(Beat)


class ConsumerGate(bootsteps.StartStopStep):  # type: ignore[misc]
    """Stops and resumes taking tasks as `Services.is_pool_closed` says, in the worker's loop."""

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - as Celery declares it

    def __init__(self, worker: Any, **options: Any) -> None:
        self._timer: Any = None

    def start(self, worker: Any) -> None:
        self._timer = worker.timer.call_repeatedly(POLL_S, self._update, (worker,))

    def stop(self, worker: Any) -> None:
        if self._timer:
            self._timer.cancel()

    def _update(self, worker: Any) -> None:
        consumer, services = worker.consumer, worker.app.services
        task_consumer = getattr(consumer, "task_consumer", None)
        if task_consumer is None:
            return
        queue, egress = services.queue, services.settings.egress
        is_open = task_consumer.consuming_from(queue)
        if is_open and services.is_pool_closed:
            logger.warning("the exchange has closed %s to %s: taking no tasks", queue, egress)
            consumer.cancel_task_queue(queue)
        elif not is_open and not services.is_pool_closed:
            logger.warning("%s is open to %s again: taking tasks", queue, egress)
            consumer.add_task_queue(queue)

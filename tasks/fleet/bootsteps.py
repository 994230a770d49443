"""Celery boot steps of a lane: a heartbeat from the worker's own loop, and the consumer gate.

The gate stops a lane from taking tasks while the exchange has closed its pool to this address, or
while the fleet serves another store. Workers at other addresses, or of that store, take them.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from klinefleet.workers.coordination.liveness import TOUCH_INTERVAL_S, HealthFile
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)

#: Seconds between two checks of whether tasks may be taken.
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
    """Stops and resumes taking tasks in the worker's loop.

    As `Services.is_pool_closed` and `FleetStore.other` say; each reason is logged once.
    """

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - as Celery declares it

    def __init__(self, worker: Any, **options: Any) -> None:
        self._timer: Any = None
        self._reason = ""

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
        level, reason = self._closed_by(services)
        if reason and reason != self._reason:
            logger.log(level, "%s: taking no tasks", reason)
        self._reason = reason
        queue = services.queue
        is_open = task_consumer.consuming_from(queue)
        if is_open and reason:
            consumer.cancel_task_queue(queue)
        elif not is_open and not reason:
            egress = services.settings.egress
            logger.warning("%s is open to %s again: taking tasks", queue, egress)
            consumer.add_task_queue(queue)

    def _closed_by(self, services: Services) -> tuple[int, str]:
        """Return why no tasks may be taken, empty if they may, and the level of its log line."""
        own, other = services.fleet_store.own, services.fleet_store.other
        if other:
            text = f"the store of {services.queue} is {own}, but the fleet at this Redis serves"
            return (logging.ERROR if own.id else logging.WARNING), f"{text} {other}"
        if services.is_pool_closed:
            egress = services.settings.egress
            return logging.WARNING, f"the exchange has closed {services.queue} to {egress}"
        return logging.NOTSET, ""

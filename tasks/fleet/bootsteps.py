"""What a lane adds to Celery's worker: signs of life from its own loop, and no tasks while its pool
is closed.

Workers at other addresses take the tasks of a pool that the exchange has closed to this one.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from klinefleet.workers.coordination.liveness import TOUCH_INTERVAL_S, HealthFile

logger = logging.getLogger(__name__)

#: How often the lane looks whether it is to take tasks, seconds.
POLL_S = 0.5


def beat_in_loop(app: Any, health_file: HealthFile) -> None:
    """Have a Celery worker beat from its own loop, from now on and again after each reconnect."""
    from celery.worker import state

    def beat() -> None:
        # A copy: threads begin tasks meanwhile. Should one do so just now, the next beat tells.
        try:
            requests = list(state.active_requests)
        except RuntimeError:
            return
        health_file.touch(request.time_start for request in requests)

    class Beat(bootsteps.StartStopStep):  # type: ignore[misc]
        # The first beat is at the moment when it can take tasks, not before.
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
    """Stops and starts taking tasks from the lane's queue as `Services` say, in the worker's own
    loop.
    """

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012 - the library's way to say it

    def __init__(self, worker: Any, **options: Any) -> None:
        self._looks: Any = None

    def start(self, worker: Any) -> None:
        self._looks = worker.timer.call_repeatedly(POLL_S, self._look, (worker,))

    def stop(self, worker: Any) -> None:
        if self._looks:
            self._looks.cancel()

    def _look(self, worker: Any) -> None:
        consumer, services = worker.consumer, worker.app.services
        taking = getattr(consumer, "task_consumer", None)
        if taking is None:
            return
        takes = taking.consuming_from(services.queue)
        if takes and services.is_pool_closed:
            logger.warning(
                "the exchange has closed %s to %s: taking no tasks",
                services.queue,
                services.settings.egress,
            )
            consumer.cancel_task_queue(services.queue)
        elif not takes and not services.is_pool_closed:
            logger.warning(
                "%s is open to %s again: taking tasks", services.queue, services.settings.egress
            )
            consumer.add_task_queue(services.queue)

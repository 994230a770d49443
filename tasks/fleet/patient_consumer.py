"""Celery's consumer, which waits for a Redis that is away or refuses.

Celery itself connects again at once where Redis answers and refuses, reports each try with a
traceback, and gives up after a hundred tries where it does not answer.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from redis import RedisError

from klinefleet.workers.coordination.redis_faults import describe, require_writable
from klinefleet.workers.support.log import RepeatedFailure

logger = logging.getLogger(__name__)

#: Seconds between two tries.
PAUSE_S = 1.0
#: Seconds between two looks for a shutdown.
_LOOK_S = 0.1


class PatientConsumer(Consumer):  # type: ignore[misc]
    """Takes a lane's tasks; connects once Redis can be written again."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._failure = RepeatedFailure(logger, "taking tasks")
        # It advises against a setting of `workers.app` whenever Redis was away.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)

    def connect(self) -> Any:
        if self.restart_count > 1:  # what Celery writes may be refused though our try is not
            _pause()
        while True:
            try:
                require_writable(self.app.services.redis)
            except RedisError as error:
                self._failure.failed(describe(error))
                _pause()
            else:
                return super().connect()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._failure.failed(describe(exc))

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        self._failure.failed(describe(exc))
        super().on_connection_error_after_connected(exc)

    def on_ready(self) -> None:
        super().on_ready()
        self._failure.succeeded()


def _pause() -> None:
    """Wait PAUSE_S, unless the lane ends: then raise what ends it."""
    until_s = time.monotonic() + PAUSE_S
    while time.monotonic() < until_s:
        maybe_shutdown()
        time.sleep(_LOOK_S)

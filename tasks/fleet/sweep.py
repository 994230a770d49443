"""Deletes once a day what killed processes have left in the store."""

from __future__ import annotations

import logging
import threading

from redis import RedisError

from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.domain.redis_keys import SWEPT
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.lake.keys import FOLDERS
from klinefleet.workers.services import Services
from klinefleet.workers.support.log import RepeatedFailure

logger = logging.getLogger(__name__)

#: Seconds between two looks whether a day has passed.
PAUSE_S = 600.0


def sweep_daily(services: Services, stopped: threading.Event) -> None:
    """Sweep the store now and daily, unless another process of the fleet has."""
    failure = RepeatedFailure(logger, "sweeping the store")
    while not stopped.is_set():
        try:
            if not services.redis.exists(SWEPT):
                services.store.sweep(FOLDERS)
                services.redis.set(SWEPT, 1, px=DAY_MS)
            failure.succeeded()
        except (RedisError, StoreFault) as error:
            failure.failed(describe(error))
        stopped.wait(PAUSE_S)

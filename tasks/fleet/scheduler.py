"""`klines beat`: the tasks that run on a schedule, and the one process that sends them."""

from __future__ import annotations

import logging
import signal
from typing import Any

from celery.beat import Scheduler, Service
from celery.schedules import crontab

from klinefleet.workers.app import app
from klinefleet.workers.coordination.liveness import WorkerHealth
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.queues import PLAN

logger = logging.getLogger(__name__)

#: Seconds between two checks of the schedule, at most; each is a heartbeat.
MAX_SLEEP_S = 20
#: Hour and minute, UTC: soon after the exchange's day has begun, one market after the other.
CATALOG_TIMES = {Market.SPOT: (0, 20), Market.USD_M: (0, 35), Market.COIN_M: (0, 50)}
#: Seconds after which a message that no worker has taken is dropped: the next day sends another.
EXPIRES_S = 12 * 3600


def schedule() -> dict[str, dict[str, Any]]:
    """Return Celery's beat_schedule: each market's catalog is rebuilt once a day."""
    return {
        f"catalog of {market}": {
            "task": "klines.catalog",
            "args": [str(market)],
            "schedule": crontab(hour=str(hour), minute=str(minute)),
            "options": {"queue": PLAN, "argsrepr": f"catalog of {market}", "expires": EXPIRES_S},
        }
        for market, (hour, minute) in CATALOG_TIMES.items()
    }


class HeartbeatScheduler(Scheduler):  # type: ignore[misc]
    """A Celery scheduler with a heartbeat, and without a file.

    It stores no last runs: what is due depends on the time of day alone.
    """

    def __init__(self, *args: Any, health: WorkerHealth | None = None, **options: Any) -> None:
        self._health = health or WorkerHealth()
        self._health_file = self._health.lane("beat")
        super().__init__(*args, **options)

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due; return the seconds to sleep."""
        self._health_file.touch()
        return float(super().tick(*args, **options))

    def close(self) -> None:
        """Stop, and end the heartbeat."""
        super().close()
        self._health.close()


def run_scheduler() -> None:
    """Send scheduled tasks until SIGTERM or SIGINT.

    Run one process in a fleet: two would send everything twice.
    """
    app.conf.update(timezone="UTC", beat_schedule=schedule())
    service = Service(app, scheduler_cls=HeartbeatScheduler, max_interval=MAX_SLEEP_S)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    logger.info("scheduled: %s", ", ".join(schedule()))
    service.start()


def _exit(*_: object) -> None:
    # The service sleeps up to MAX_SLEEP_S at a time; it catches this and closes.
    raise SystemExit

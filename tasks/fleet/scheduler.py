"""What is done by the clock, and the one process that sends it."""

from __future__ import annotations

import logging
import signal
from typing import Any

from celery.beat import Scheduler, Service
from celery.schedules import crontab

from klinefleet.workers.app import app
from klinefleet.workers.coordination.liveness import HealthFile
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.queues import PLAN

logger = logging.getLogger(__name__)

#: Longest sleep between two looks at the clock, seconds; each is a sign of life.
LOOK_S = 20

#: Hour and minute, UTC: soon after the exchange's day has begun, one market after the other.
AT = {Market.SPOT: (0, 20), Market.USD_M: (0, 35), Market.COIN_M: (0, 50)}
#: A message that no worker took in so long is dropped: the next day sends another.
EXPIRES_S = 12 * 3600


def schedule() -> dict[str, dict[str, Any]]:
    """Return what is sent when: each market's catalog is made anew once a day."""
    return {
        f"catalog of {market}": {
            "task": "klines.catalog",
            "args": [str(market)],
            "schedule": crontab(hour=str(hour), minute=str(minute)),
            "options": {"queue": PLAN, "argsrepr": f"catalog of {market}", "expires": EXPIRES_S},
        }
        for market, (hour, minute) in AT.items()
    }


class ScheduleClock(Scheduler):  # type: ignore[misc]
    """Sends what is due and says that it lives.

    It keeps nothing: the times are the clock's, not the last run's.
    """

    def __init__(self, *args: Any, health_file: HealthFile | None = None, **options: Any) -> None:
        self._health_file = health_file or HealthFile("beat")
        super().__init__(*args, **options)

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due and return the seconds to sleep."""
        self._health_file.touch()
        return float(super().tick(*args, **options))

    def close(self) -> None:
        """Take leave."""
        super().close()
        self._health_file.remove()


def run_scheduler() -> None:
    """Send what is due, until told to stop.

    One process in a fleet: two would send everything twice.
    """
    app.conf.update(timezone="UTC", beat_schedule=schedule())
    service = Service(app, scheduler_cls=ScheduleClock, max_interval=LOOK_S)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    logger.info("the clock runs: %s", ", ".join(schedule()))
    service.start()


def _leave(*_: object) -> None:
    # The service sleeps up to 20 s at a time; it catches this and closes.
    raise SystemExit

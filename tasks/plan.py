"""klines.plan: request − coverage → blocks → windows of pages or files, issued piece by piece as
others finish.

One planner at a time leads a run. It works in short turns and sends itself again, so many runs
share the plan slots, and one that was killed is missed within seconds (`wake_leaderless`) and goes
on from the run's cursor.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject
from redis import RedisError

from klinefleet.tasks.planning.turn import lead
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.log_context import bind_log_context
from klinefleet.tasks.runs.lost_work import HANDED_BACK_US
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.app import app
from klinefleet.workers.domain.errors import FleetError, LeaseLost, TaskFailed, Transient
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)
#: How long a plan that cannot go on is held before it is handed back, to whoever finds it next.
HAND_BACK_S = 2.0


@app.task(name="klines.plan", bind=True, throws=(TaskFailed,))  # type: ignore[untyped-decorator]
def plan(self: Any, run: str, *_: Any) -> None:
    """Lead a run for one turn; does nothing while another planner leads it, or once it has ended.

    What a later version tells besides is passed over.
    """
    services: Services = self.app.services
    bind_log_context(run)
    try:
        if sent_us := lead(services, run):
            enqueue.send_plan(run, sent_us)
    except (RedisError, Transient) as error:
        logger.warning("plan %s: handed back: %s", run, error)
        services.stop.wait(HAND_BACK_S)
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Runs(services.redis).planned(run, later_us=HANDED_BACK_US)
        raise Reject(error, requeue=True) from error
    except LeaseLost as error:
        logger.warning("plan %s: %s", run, error)
    except FleetError as error:
        logger.error("plan %s: %s", run, error.reason)
        raise TaskFailed(error.reason) from error

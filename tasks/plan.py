"""klines.plan: request − coverage → partitions → windows of pages or files, piece by piece.

One planner at a time leads a run. A plan task leads for a time slice and then sends the next one,
so that many runs share the plan lane's slots. If its worker is killed, another is sent within
seconds (`requeue_leaderless_runs`) and goes on from the run's cursor.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis import RedisError

from klinefleet.tasks.planning.plan_run import plan_run
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.log_context import bind_log_context
from klinefleet.tasks.runs.lost_work import REQUEUE_GRACE_US
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.app import app
from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.errors import FleetError, LeaseLost, TaskFailed, Transient
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)


@app.task(name="klines.plan", bind=True, throws=(TaskFailed,))  # type: ignore[untyped-decorator]
def plan(self: Any, run: str, *_: Any) -> None:
    """Lead a run for one time slice; skip it if it has ended or another planner leads it.

    Further arguments, of a newer version, are ignored.
    """
    services: Services = self.app.services
    bind_log_context(run)
    try:
        services.fleet_store.check()
        if sent_us := plan_run(services, run):
            enqueue.send_plan(run, sent_us)
    except (RedisError, OperationalError, Transient) as error:
        logger.warning("plan %s: requeued: %s", run, describe(error))
        services.pause_before_requeue()
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Runs(services.redis).mark_plan_sent(run, delay_us=REQUEUE_GRACE_US)
        raise Reject(error, requeue=True) from error
    except LeaseLost as error:
        logger.warning("plan %s: %s", run, error)
    except FleetError as error:
        logger.error("plan %s: %s", run, error.reason)
        raise TaskFailed(error.reason) from error

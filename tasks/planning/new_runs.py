"""Sends a planner to runs that have none: new ones, and those whose planner was lost."""

from __future__ import annotations

import logging

from redis import RedisError

from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.lost_work import Sent, missing
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.queues import PLAN
from klinefleet.workers.domain.redis_keys import plan_lease
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)


#: Seconds that one wait for a new run lasts; shorter than any timeout of the connection.
POLL_S = 2.0


def enqueue_new_runs(services: Services) -> None:
    """Send a planner to each new run as its command rings, until the process is told to stop."""
    runs = Runs(services.redis)
    while not services.stop.is_set():
        try:
            if run := runs.next_new(POLL_S):
                logger.info("run %s begins", run)
                enqueue.send_plan(run, runs.planned(run))
        except RedisError as error:
            logger.warning("new runs: %s; waiting again", error)
            services.stop.wait(1.0)


def requeue_leaderless_runs(services: Services) -> None:
    """Send a planner to every run that none leads and for which none is waiting."""
    runs = Runs(services.redis)
    active = runs.active()
    sent = {
        Sent(plan_lease(run), PLAN, us): run
        for run, us in zip(active, runs.planned_us(active), strict=True)
    }
    for one in missing(services.redis, list(sent)):
        runs.planned(sent[one])
        enqueue.send_plan(sent[one], one.sent_us, first=True)

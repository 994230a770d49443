"""Sends plan tasks for runs without a planner: new ones, and those whose plan task was lost."""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError
from redis import RedisError

from klinefleet.tasks.planning.ending import end_run
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.lost_work import SentWork, find_missing
from klinefleet.tasks.runs.poison import cause_of_deaths, may_die_again, state_of_plan
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import dead_holders
from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.queues import PLAN
from klinefleet.workers.domain.redis_keys import plan_lease
from klinefleet.workers.services import Services
from klinefleet.workers.support.log import RepeatedFailure

logger = logging.getLogger(__name__)


#: Seconds that one wait for a new run lasts; shorter than any timeout of the connection.
POLL_S = 2.0


def enqueue_new_runs(services: Services) -> None:
    """Enqueue a plan task for each new run until shutdown."""
    runs, failure = Runs(services.redis), RepeatedFailure(logger, "reading new runs")
    while not services.stop.is_set():
        try:
            if run := runs.next_new_run(POLL_S):
                logger.info("run %s begins", run)
                enqueue.send_plan(run, runs.mark_plan_sent(run))
            failure.succeeded()
        except (RedisError, OperationalError) as error:
            failure.failed(describe(error))
            services.stop.wait(1.0)


def requeue_leaderless_runs(services: Services) -> None:
    """Enqueue a plan task for every active run without a leader and without a waiting one."""
    runs = Runs(services.redis)
    active = runs.active()
    run_by_work = {
        SentWork(plan_lease(run), PLAN, sent_us): run
        for run, sent_us in zip(active, runs.plan_sent_us(active), strict=True)
    }
    missing = find_missing(services.redis, list(run_by_work))
    dead = dead_holders(services.redis, [work.lease for work in missing])
    for work in missing:
        run = run_by_work[work]
        if work.lease in dead and not may_die_again(runs, run, state_of_plan(runs, run)):
            _fail(services, run, cause_of_deaths(services.redis, dead[work.lease]))
            continue
        runs.mark_plan_sent(run)
        enqueue.send_plan(run, work.sent_us, first=True)


def _fail(services: Services, run: str, reason: str) -> None:
    """End a run as incomplete, unless a planner leads it after all."""
    runs = Runs(services.redis)
    logger.error("plan %s failed: %s", run, reason)
    with services.leases.hold(plan_lease(run)) as lease:
        if lease and (led := runs.take_lead(run, lease.fence)):
            led.record(run, Record(Level.FAILED, reason, source="plan"))
            end_run(services, led, run)

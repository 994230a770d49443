"""klines.plan: request − coverage → blocks → windows of pages or files, issued piece by piece as others finish.

One planner at a time leads a run. It works in short turns and sends itself again, so many runs share the plan slots,
and one that was killed is missed within seconds (`wake_leaderless`) and goes on from the run's cursor.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject
from redis import RedisError

from tasks import messages
from tasks.context import about
from tasks.planning.planner import planner_of
from tasks.runs.keys import plan_lease
from tasks.runs.lost import HANDED_BACK_US, Sent, missing
from tasks.runs.progress import State
from tasks.runs.records import Level, Record
from tasks.runs.store import Runs
from workers.app import app
from workers.errors import Failed, FleetError, LeaseLost, Transient
from workers.queues import PLAN
from workers.toolbox import Toolbox

logger = logging.getLogger(__name__)

#: How long one turn leads a run before it lets others have the slot.
TURN_S = 20.0
#: How long a plan that cannot go on is held before it is handed back, to whoever finds it next.
HAND_BACK_S = 2.0
#: How long one listening to the bell lasts; shorter than any timeout of the connection.
BELL_S = 2.0


@app.task(name="klines.plan", bind=True, throws=(Failed,))  # type: ignore[untyped-decorator]
def plan(self: Any, run: str, *_: Any) -> None:
    """Lead a run for one turn; does nothing while another planner leads it, or once it has ended.

    What a later version tells besides is passed over.
    """
    tools: Toolbox = self.app.toolbox
    about(run)
    try:
        if sent_us := lead(tools, run):
            messages.send_plan(run, sent_us)
    except (RedisError, Transient) as error:
        logger.warning("plan %s: handed back: %s", run, error)
        tools.stop.wait(HAND_BACK_S)
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Runs(tools.redis).planned(run, later_us=HANDED_BACK_US)
        raise Reject(error, requeue=True) from error
    except LeaseLost as error:
        logger.warning("plan %s: %s", run, error)
    except FleetError as error:
        logger.error("plan %s: %s", run, error.reason)
        raise Failed(error.reason) from error


def lead(tools: Toolbox, run: str) -> int:
    """Lead a run for one turn; returns the Redis µs at which the next turn counts as sent, 0 where there is none.

    What cannot pass ends the run incomplete, unless another planner leads it by then (LeaseLost).
    """
    runs = Runs(tools.redis)
    with tools.heart.lease(plan_lease(run)) as lease:
        try:
            planner = planner_of(tools, run, lease) if lease else None
            if planner is None:
                return 0
            runs = planner.runs
            # Noted before the lease ends: nobody is to miss a planner in between.
            return runs.planned(run) if planner.lead(TURN_S) else 0
        except (Transient, LeaseLost):
            raise
        except FleetError as error:
            runs.record(run, Record(Level.FAILED, error.reason, source="plan"))
            runs.end(run, State.INCOMPLETE)
            raise


def answer_bell(tools: Toolbox) -> None:
    """Send a planner to each new run as its command rings, until the process is told to stop."""
    runs = Runs(tools.redis)
    while not tools.stop.is_set():
        try:
            if run := runs.rung(BELL_S):
                logger.info("run %s begins", run)
                messages.send_plan(run, runs.planned(run))
        except RedisError as error:
            logger.warning("bell: %s; listening again", error)
            tools.stop.wait(1.0)


def wake_leaderless(tools: Toolbox) -> None:
    """Send a planner to every run that none leads and for which none is waiting."""
    runs = Runs(tools.redis)
    active = runs.active()
    sent = {Sent(plan_lease(run), PLAN, us): run for run, us in zip(active, runs.planned_us(active), strict=True)}
    for one in missing(tools.redis, list(sent)):
        runs.planned(sent[one])
        messages.send_plan(sent[one], one.sent_us, first=True)

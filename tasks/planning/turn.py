"""One turn of a planner: it holds the run's lease, leads it for a while and lets go."""

from __future__ import annotations

from klinefleet.tasks.planning.planner import planner_of
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import FleetError, LeaseLost, Transient
from klinefleet.workers.domain.redis_keys import plan_lease
from klinefleet.workers.services import Services

#: How long one turn leads a run before it lets others have the slot.
TURN_S = 20.0


def lead(services: Services, run: str) -> int:
    """Lead a run for one turn; returns the Redis µs at which the next turn counts as sent, 0 where
    there is none.

    What cannot pass ends the run incomplete, unless another planner leads it by then (LeaseLost).
    """
    runs = Runs(services.redis)
    with services.leases.hold(plan_lease(run)) as lease:
        try:
            planner = planner_of(services, run, lease) if lease else None
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

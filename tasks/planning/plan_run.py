"""The work of one plan task: takes a run's lease, leads the run for a time slice, and lets go."""

from __future__ import annotations

from klinefleet.tasks.planning.ending import end_run
from klinefleet.tasks.planning.planner import start_planner
from klinefleet.tasks.runs.poison import all_foreseen, may_fail_again, state_of_plan
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import FleetError, LeaseLost, Transient, Unforeseen
from klinefleet.workers.domain.redis_keys import plan_lease
from klinefleet.workers.services import Services

#: Seconds for which one plan task leads a run before it leaves its slot to others.
TIME_SLICE_S = 20.0


def plan_run(services: Services, run: str) -> int:
    """Lead a run for one time slice; return the `sent_us` of the next plan task, 0 for none.

    An error that no retry can help ends the run as incomplete, unless another planner leads it by
    then (LeaseLost).
    """
    runs = Runs(services.redis)
    with services.leases.hold(plan_lease(run)) as lease:
        try:
            with all_foreseen(f"plan {run}"):
                planner = start_planner(services, run, lease) if lease else None
                if planner is None:
                    return 0
                runs = planner.runs
                # Marked while the lease is held, or the run would look leaderless in between.
                return runs.mark_plan_sent(run) if planner.lead(TIME_SLICE_S) else 0
        except FleetError as error:
            if isinstance(error, Unforeseen):
                is_final = not may_fail_again(runs, run, state_of_plan(runs, run), error)
            else:
                is_final = not isinstance(error, Transient | LeaseLost)
            if not is_final:
                raise
            runs.record(run, Record(Level.FAILED, error.reason, source="plan"))
            end_run(services, runs, run)
            raise

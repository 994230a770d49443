"""Whether a run is for the planner's store."""

from __future__ import annotations

from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.fleet_store import served_store
from klinefleet.workers.domain.errors import OtherStore, TaskFailed
from klinefleet.workers.services import Services


def require_own_run(services: Services, runs: Runs, run: str) -> None:
    """Raise an error if the run is for another store than the planner's.

    OtherStore if the fleet serves that store: the run is requeued for its lanes. Else TaskFailed:
    no lane at this Redis can serve it, and its command would wait for nothing. LakeFormat if the
    planner's lake is of another format than this version writes.
    """
    own, wanted = services.own_store(), runs.store(run)
    if wanted is None or wanted.id == own.id:
        return
    served = served_store(services.redis)
    if served and served.id == wanted.id:
        raise OtherStore(f"run {run} is for the store {wanted}, and this worker's is {own}")
    raise TaskFailed(
        f"the run is for the store {wanted}, and the fleet serves {own}: nothing was fetched"
    )

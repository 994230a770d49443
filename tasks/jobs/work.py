"""What every task of a piece does around its work: lease, result, requeue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from celery.exceptions import Reject
from redis import RedisError

from klinefleet.tasks.jobs.state import Jobs
from klinefleet.tasks.runs.log_context import bind_log_context
from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.errors import OtherStore, OverWeight
from klinefleet.workers.domain.redis_keys import piece_lease
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)


def work_piece(services: Services, job: str, piece: str, work: Callable[[], str]) -> None:
    """Do a piece's work and record the results that it returns as JSON.

    Nothing is done if no command waits for the piece, or another worker does it. It is requeued if
    Redis fails, its weight is not to be had, or the fleet serves another store than this worker.
    """
    bind_log_context(job)
    try:
        services.fleet_store.check()
        jobs = Jobs(services.redis)
        with services.leases.hold(piece_lease(job, piece)) as is_mine:
            if is_mine and jobs.is_open(job, piece):
                jobs.record_results(job, piece, work())
    except (RedisError, OtherStore, OverWeight) as error:
        logger.warning("%s of job %s: requeued: %s", piece, job, describe(error))
        services.pause_before_requeue()
        # Unrecorded, the piece may be sent a second time. That changes nothing.
        with suppress(RedisError):
            Jobs(services.redis).mark_requeued(job, piece)
        raise Reject(error, requeue=True) from error

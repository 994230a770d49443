"""klines.compact: a partition's raw objects → its Parquet file, one in memory at a time."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis import RedisError

from klinefleet.tasks.ingest.compaction import compact_partition
from klinefleet.tasks.runs.log_context import bind_log_context
from klinefleet.tasks.runs.lost_work import REQUEUE_GRACE_US
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.app import app
from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.errors import (
    OtherStore,
    OverWeight,
    StoreFault,
    TaskFailed,
    Unforeseen,
)
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)

#: After these the task goes back to its queue.
_REQUEUED = (RedisError, OperationalError, OtherStore, OverWeight, StoreFault, Unforeseen)


@app.task(name="klines.compact", bind=True, throws=(TaskFailed,))  # type: ignore[untyped-decorator]
def compact(self: Any, run: str, partition: str, *_: Any) -> None:
    """Merge a partition's raw objects into it; running it twice equals running it once.

    Further arguments, of a newer version, are ignored.
    """
    services: Services = self.app.services
    parsed = Partition.parse(partition)
    bind_log_context(run, parsed)
    try:
        services.fleet_store.check()
        failed = compact_partition(services, run, parsed)
    except _REQUEUED as error:
        logger.warning("compact %s: requeued: %s", partition, describe(error))
        services.pause_before_requeue()
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Runs(services.redis).partitions.mark_sent(run, [], [parsed], delay_us=REQUEUE_GRACE_US)
        raise Reject(error, requeue=True) from error
    if failed:
        raise TaskFailed(failed)

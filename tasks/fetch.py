"""klines.fetch: weight → GET → check → raw object. The bytes are checked and stored as received.

A window of the archive is files instead of pages: they cost no weight, and each is compared with
its CHECKSUM. A file that cannot be used is replaced by daily files or REST, and reported.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis import RedisError

from klinefleet.tasks.ingest.fetch_window import fetch_window
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
from klinefleet.workers.domain.series import Partition, Window, known_source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)

#: After these the task goes back to its queue.
_REQUEUED = (RedisError, OperationalError, OverWeight, OtherStore, StoreFault, Unforeseen)


@app.task(name="klines.fetch", bind=True, throws=(TaskFailed,))  # type: ignore[untyped-decorator]
def fetch(
    self: Any,
    run: str,
    partition: str,
    start_ms: int,
    end_ms: int,
    source: str = "rest",
    *_: Any,
) -> None:
    """Fetch one window of a partition; requeue it if Redis or the store fails, or a ban is long.

    Further arguments, of a newer version, are ignored.
    """
    services: Services = self.app.services
    window = Window(Partition.parse(partition), Span(start_ms, end_ms), known_source(source))
    bind_log_context(run, window)
    try:
        services.fleet_store.check()
        failed = fetch_window(services, run, window)
    except _REQUEUED as error:
        logger.warning("fetch %s: requeued: %s", window, describe(error))
        services.pause_before_requeue()
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Runs(services.redis).partitions.mark_sent(run, [window], delay_us=REQUEUE_GRACE_US)
        raise Reject(error, requeue=True) from error
    if failed:
        raise TaskFailed(failed)

"""klines.fetch: weight → GET → check → raw object. The bytes are checked and kept as they came, not
parsed.

A window of the archive is files instead of pages: no weight, but each held against its CHECKSUM.
What cannot be used is answered for by daily files or by REST, and reported.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject
from redis import RedisError

from klinefleet.tasks.ingest.fetch_window import fetch_window
from klinefleet.tasks.runs.log_context import bind_log_context
from klinefleet.tasks.runs.lost_work import HANDED_BACK_US
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.app import app
from klinefleet.workers.domain.errors import (
    OverWeight,
    StoreFault,
    TaskFailed,
)
from klinefleet.workers.domain.series import Block, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)


@app.task(name="klines.fetch", bind=True, throws=(TaskFailed,))  # type: ignore[untyped-decorator]
def fetch(
    self: Any, run: str, block: str, start_ms: int, end_ms: int, source: str = Source.REST, *_: Any
) -> None:
    """Fetch one window of a block; handed back to the queue where Redis fails or a ban is long.

    What a later version tells besides is passed over.
    """
    services: Services = self.app.services
    window = Window(Block.parse(block), Span(start_ms, end_ms), Source(source))
    bind_log_context(run, window)
    try:
        failed = fetch_window(services, run, window)
    except (RedisError, OverWeight, StoreFault) as error:
        logger.warning("fetch %s: handed back: %s", window, error)
        services.stop.wait(1.0)
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Runs(services.redis).blocks.note_sent(run, [window], later_us=HANDED_BACK_US)
        raise Reject(error, requeue=True) from error
    if failed:
        raise TaskFailed(failed)

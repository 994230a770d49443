"""klines.verify: partitions read again → what is wrong with them; a run of one series' months at a
time.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject
from redis import RedisError

from klinefleet.tasks.runs.log_context import bind_log_context
from klinefleet.tasks.verification.pieces import Piece, verify_piece
from klinefleet.tasks.verification.state import Verifications
from klinefleet.workers.app import app
from klinefleet.workers.domain.errors import OverWeight
from klinefleet.workers.domain.redis_keys import check_lease
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)


@app.task(name="klines.verify", bind=True)  # type: ignore[untyped-decorator]
def verify(self: Any, run: str, *piece: Any) -> None:
    """Check some months of a series and tell the command that waits; does nothing once nobody does."""
    services: Services = self.app.services
    parsed = Piece.of(*piece)
    bind_log_context(run)
    try:
        checks = Verifications(services.redis)
        with services.leases.hold(check_lease(run, str(parsed))) as is_mine:
            if is_mine and checks.wants(run, str(parsed)):
                checks.done(run, str(parsed), verify_piece(services, parsed).to_json(str(parsed)))
    except (RedisError, OverWeight) as error:
        logger.warning("verify %s: handed back: %s", parsed, error)
        services.stop.wait(1.0)
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Verifications(services.redis).sent(run, str(parsed))
        raise Reject(error, requeue=True) from error

"""klines.verify: reads some partitions of a series again and records what is wrong with them."""

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
def verify(self: Any, verification: str, *arguments: Any) -> None:
    """Check one piece and record its findings; do nothing if no command waits for it."""
    services: Services = self.app.services
    piece = Piece.from_arguments(*arguments)
    name = str(piece)
    bind_log_context(verification)
    try:
        verifications = Verifications(services.redis)
        with services.leases.hold(check_lease(verification, name)) as is_mine:
            if is_mine and verifications.is_open(verification, name):
                findings = verify_piece(services, piece)
                verifications.record_findings(verification, name, findings.to_json(name))
    except (RedisError, OverWeight) as error:
        logger.warning("verify %s: requeued: %s", name, error)
        services.stop.wait(1.0)
        # Unrecorded, the piece may be sent a second time. That changes nothing.
        with suppress(RedisError):
            Verifications(services.redis).mark_requeued(verification, name)
        raise Reject(error, requeue=True) from error

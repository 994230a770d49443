"""The open pieces of each verification and their findings, in Redis.

The command that started a verification polls them and ends it. Both keys expire soon after a
command that was killed; pieces that are still queued by then are not checked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

from redis import Redis

from klinefleet.tasks.runs.lost_work import REQUEUE_GRACE_US
from klinefleet.workers.coordination.redis_clock import now_ms, now_us
from klinefleet.workers.domain.redis_keys import check_key

#: A verification expires after this long without a poll by its command.
TTL_MS = 600_000

_RECORD_FINDINGS, _MARK_REQUEUED = (
    Path(__file__).with_name(f"{script}.lua").read_text()
    for script in ("record_findings", "mark_requeued")
)


class Verifications:
    """The state of all verifications. Every method is safe to call twice."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._record_findings = redis.register_script(_RECORD_FINDINGS)
        self._mark_requeued = redis.register_script(_MARK_REQUEUED)

    def begin(self) -> str:
        """Return the id of a new verification."""
        return f"{now_ms(self._redis):x}-{secrets.token_hex(2)}"

    def mark_sent(self, verification: str, pieces: Iterable[str]) -> int:
        """Record pieces as open and sent; return when the first was, Redis µs.

        Each counts as sent a microsecond after the one before.
        """
        sent_us = now_us(self._redis)
        with self._redis.pipeline() as pipe:
            pipe.hset(
                _open_key(verification),
                mapping={piece: sent_us + number for number, piece in enumerate(pieces)},
            )
            pipe.pexpire(_open_key(verification), TTL_MS)
            pipe.execute()
        return sent_us

    def mark_requeued(self, verification: str, piece: str) -> None:
        """Record that a piece's message went back to the end of its queue."""
        self._mark_requeued([_open_key(verification)], [piece, REQUEUE_GRACE_US])

    def is_open(self, verification: str, piece: str) -> bool:
        """Return True if the verification still waits for the piece."""
        return bool(self._redis.hexists(_open_key(verification), piece))

    def record_findings(self, verification: str, piece: str, findings: str) -> bool:
        """Record an open piece's findings and close it; return False if it is not open."""
        keys = [_open_key(verification), _findings_key(verification)]
        return bool(self._record_findings(keys, [piece, findings, TTL_MS]))

    def poll(self, verification: str) -> tuple[dict[str, int], list[str]]:
        """Return the open pieces with when each was sent, Redis µs, and the findings since then.

        Findings are returned once. Polling keeps the verification from expiring.
        """
        with self._redis.pipeline() as pipe:
            pipe.hgetall(_open_key(verification))
            pipe.lrange(_findings_key(verification), 0, -1)
            pipe.delete(_findings_key(verification))
            pipe.pexpire(_open_key(verification), TTL_MS)
            sent, findings, *_ = pipe.execute()
        open_pieces = {piece.decode(): int(sent_us) for piece, sent_us in sent.items()}
        return open_pieces, [text.decode() for text in findings]

    def end(self, verification: str) -> None:
        """Delete a verification."""
        self._redis.delete(_open_key(verification), _findings_key(verification))


def _open_key(verification: str) -> str:
    return check_key(verification, "open")


def _findings_key(verification: str) -> str:
    return check_key(verification, "found")

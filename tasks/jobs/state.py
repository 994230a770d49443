"""The open pieces of each job and their results, in Redis.

The command that started a job polls them and ends it. Both keys expire soon after a command that
was killed; pieces that are still queued by then are not done.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

from redis import Redis

from klinefleet.tasks.runs.lost_work import REQUEUE_GRACE_US
from klinefleet.workers.coordination.redis_clock import now_ms, now_us
from klinefleet.workers.domain.redis_keys import job_key

#: A job expires after this long without a poll by its command.
TTL_MS = 600_000

_RECORD_RESULTS, _MARK_REQUEUED = (
    Path(__file__).with_name(f"{script}.lua").read_text()
    for script in ("record_results", "mark_requeued")
)


class Jobs:
    """The state of all jobs. Every method is safe to call twice."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._record_results = redis.register_script(_RECORD_RESULTS)
        self._mark_requeued = redis.register_script(_MARK_REQUEUED)

    def begin(self) -> str:
        """Return the id of a new job."""
        return f"{now_ms(self._redis):x}-{secrets.token_hex(2)}"

    def mark_sent(self, job: str, pieces: Iterable[str]) -> int:
        """Record pieces as open and sent; return when the first was, Redis µs.

        Each counts as sent a microsecond after the one before.
        """
        sent_us = now_us(self._redis)
        with self._redis.pipeline() as pipe:
            pipe.hset(
                _open_key(job),
                mapping={piece: sent_us + number for number, piece in enumerate(pieces)},
            )
            pipe.pexpire(_open_key(job), TTL_MS)
            pipe.execute()
        return sent_us

    def mark_requeued(self, job: str, piece: str) -> None:
        """Record that a piece's message went back to the end of its queue."""
        self._mark_requeued([_open_key(job)], [piece, REQUEUE_GRACE_US])

    def is_open(self, job: str, piece: str) -> bool:
        """Return True if the job still waits for the piece."""
        return bool(self._redis.hexists(_open_key(job), piece))

    def record_results(self, job: str, piece: str, results: str) -> bool:
        """Record an open piece's results and close it; return False if it is not open."""
        keys = [_open_key(job), _results_key(job)]
        return bool(self._record_results(keys, [piece, results, TTL_MS]))

    def poll(self, job: str) -> tuple[dict[str, int], list[str]]:
        """Return the open pieces with when each was sent, Redis µs, and the results since then.

        Results are returned once. Polling keeps the job from expiring.
        """
        with self._redis.pipeline() as pipe:
            pipe.hgetall(_open_key(job))
            pipe.lrange(_results_key(job), 0, -1)
            pipe.delete(_results_key(job))
            pipe.pexpire(_open_key(job), TTL_MS)
            sent, results, *_ = pipe.execute()
        open_pieces = {piece.decode(): int(sent_us) for piece, sent_us in sent.items()}
        return open_pieces, [text.decode() for text in results]

    def end(self, job: str) -> None:
        """Delete a job."""
        self._redis.delete(_open_key(job), _results_key(job))


def _open_key(job: str) -> str:
    return job_key(job, "open")


def _results_key(job: str) -> str:
    return job_key(job, "results")

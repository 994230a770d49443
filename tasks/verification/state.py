"""What the fleet has under way of a verification, in Redis; the command that waits for it leads it.

Both end with the command, or lapse soon after it was killed: what is still queued then is not done.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

from redis import Redis

from klinefleet.tasks.runs.lost_work import HANDED_BACK_US
from klinefleet.workers.coordination.redis_clock import now_ms, now_us
from klinefleet.workers.domain.redis_keys import check_key

#: A verification whose command has not looked for so long is forgotten.
KEEP_MS = 600_000

_CHECKED, _SENT = (
    Path(__file__).with_name(f"{verb}.lua").read_text() for verb in ("checked", "sent_again")
)


class Verifications:
    """The state of all verifications; every method is safe to call twice."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._checked, self._sent = redis.register_script(_CHECKED), redis.register_script(_SENT)

    def begin(self) -> str:
        """Return the id of a new verification."""
        return f"{now_ms(self._redis):x}-{secrets.token_hex(2)}"

    def issue(self, check: str, pieces: Iterable[str]) -> int:
        """Note pieces as sent, each a microsecond after the one before; returns when the first was,
        Redis µs.
        """
        sent_us = now_us(self._redis)
        with self._redis.pipeline() as pipe:
            pipe.hset(
                check_key(check, "open"),
                mapping={piece: sent_us + number for number, piece in enumerate(pieces)},
            )
            pipe.pexpire(check_key(check, "open"), KEEP_MS)
            pipe.execute()
        return sent_us

    def sent(self, check: str, piece: str) -> None:
        """Note that the message of a piece is handed back, to the end of its queue."""
        self._sent([check_key(check, "open")], [piece, HANDED_BACK_US])

    def wants(self, check: str, piece: str) -> bool:
        """Return whether somebody waits for the piece."""
        return bool(self._redis.hexists(check_key(check, "open"), piece))

    def done(self, check: str, piece: str, found: str) -> bool:
        """Tell what came of a piece, unless that was told before; returns whether it was news."""
        return bool(
            self._checked(
                [check_key(check, "open"), check_key(check, "found")], [piece, found, KEEP_MS]
            )
        )

    def look(self, check: str) -> tuple[dict[str, int], list[str]]:
        """Return the pieces that are sent and not done, each with its Redis µs, and what came of
        others since.
        """
        with self._redis.pipeline() as pipe:
            pipe.hgetall(check_key(check, "open"))
            pipe.lrange(check_key(check, "found"), 0, -1)
            pipe.delete(check_key(check, "found"))
            pipe.pexpire(check_key(check, "open"), KEEP_MS)
            still, found, *_ = pipe.execute()
        return {piece.decode(): int(sent_us) for piece, sent_us in still.items()}, [
            told.decode() for told in found
        ]

    def end(self, check: str) -> None:
        """Forget a verification."""
        self._redis.delete(check_key(check, "open"), check_key(check, "found"))

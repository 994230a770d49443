"""Time that passes for leases and heartbeats in Redis."""

from __future__ import annotations

from redis import Redis

from klinefleet.workers.domain.redis_keys import LEASES, WORKERS


def let_pass(redis: Redis, ms: int) -> None:
    """Set back all that holds for a while, as if so much time had passed."""
    for key in (LEASES, WORKERS):
        for name in redis.zrange(key, 0, -1):
            redis.zincrby(key, -ms, name)

"""Redis's clock, the one that all processes share."""

from __future__ import annotations

from redis import Redis


def now_ms(redis: Redis) -> int:
    """Return Redis's time, ms UTC."""
    return now_us(redis) // 1000


def now_us(redis: Redis) -> int:
    """Return Redis's time, µs UTC."""
    seconds, micros = redis.time()
    return int(seconds * 1_000_000 + micros)

"""Moments as integers: milliseconds since the epoch, UTC, and the lengths counted in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

#: Returns the time in ms since the epoch; the owner of the clock passes it in.
Clock = Callable[[], int]


def utc_ms(text: str) -> int:
    """Return the moment written as `2018-02-09 10:00` or `2018-01-04 03:00:14.839`, read as UTC."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND_MS + moment.microsecond // 1_000

"""Times are milliseconds since the epoch, UTC: constants, and ISO text to and fro."""

from __future__ import annotations

from datetime import UTC, datetime

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

#: The end of a life whose end nobody knows; a delivery date that means "never" lies beyond it
#: (2100-01-01).
NEVER_MS = 4_102_444_800_000


def utc_ms(year: int, month: int = 1, day: int = 1) -> int:
    """Return the midnight UTC that begins the day."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def month_start(ms: int) -> int:
    """Return the start of the month that `ms` falls in."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return utc_ms(moment.year, moment.month)


def iso(ms: int) -> str:
    """Return the moment as people read it, to the minute where it stands on one."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    if ms % DAY_MS == 0:
        return f"{moment:%Y-%m-%d}"
    return (
        f"{moment:%Y-%m-%dT%H:%M}"
        if ms % MINUTE_MS == 0
        else f"{moment:%Y-%m-%dT%H:%M:%S.}{ms % 1000:03d}"
    )


def parse_iso(text: str) -> int:
    """Return the moment that `iso` spelled as `text`; ValueError where it is none."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000

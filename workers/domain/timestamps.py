"""Times in milliseconds since the epoch, UTC: constants, and their ISO text."""

from __future__ import annotations

from datetime import UTC, datetime

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

#: 2100-01-01: the end of a trading span without an end. Delivery dates that mean "never" are later.
NEVER_MS = 4_102_444_800_000


def utc_ms(year: int, month: int = 1, day: int = 1) -> int:
    """Return the start of a day, ms UTC."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def month_start(ms: int) -> int:
    """Return the start of the month that holds `ms`, ms UTC."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return utc_ms(moment.year, moment.month)


def iso(ms: int) -> str:
    """Return `ms` as ISO text: to the day, the minute or the millisecond."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    if ms % DAY_MS == 0:
        return f"{moment:%Y-%m-%d}"
    if ms % MINUTE_MS == 0:
        return f"{moment:%Y-%m-%dT%H:%M}"
    return f"{moment:%Y-%m-%dT%H:%M:%S.}{ms % 1000:03d}"


def parse_iso(text: str) -> int:
    """Return the ms of a text that `iso` returned; ValueError where it is none."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000

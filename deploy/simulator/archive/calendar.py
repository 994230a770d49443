"""When files are published.

A day's file comes the next morning, a month's on the first Monday of the next month.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from deploy.simulator.archive.names import Cycle, File, Folder
from deploy.simulator.intervals import GRIDS, MONDAY_PHASE_MS, MonthGrid
from deploy.simulator.markets import Market
from deploy.simulator.moments import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, utc_ms

#: Time of day at which new files appear.
PUBLISHED_AT_MS = 8 * HOUR_MS + 30 * MINUTE_MS
WEEK_MS = 7 * DAY_MS
#: The archive of a market begins here at the earliest, whatever REST still has from before.
BEGINS_MS = {
    (Market.USD_M, Cycle.DAILY): utc_ms("2019-12-31"),
    (Market.USD_M, Cycle.MONTHLY): utc_ms("2020-01-01"),
}

MONTHS = MonthGrid()


def published_ms(file: File) -> int:
    """Return when a file appears."""
    if file.folder.cycle is Cycle.DAILY:
        return file.end_ms + PUBLISHED_AT_MS
    closed_ms = file.end_ms
    if file.folder.interval:
        # A long candle may close days after the month it opened in.
        grid = GRIDS[file.folder.interval]
        closed_ms = grid.open_of(grid.index_at(file.end_ms - 1) + 1)
    days_after_monday = (closed_ms - MONDAY_PHASE_MS) % WEEK_MS
    return closed_ms + (WEEK_MS - days_after_monday) % WEEK_MS + PUBLISHED_AT_MS


def periods(folder: Folder, first_ms: int, end_ms: int, now_ms: int) -> Iterator[str]:
    """Yield the periods whose files are published, oldest first.

    The series traded from `first_ms` until before `end_ms`.
    """
    first_ms = max(first_ms, BEGINS_MS.get((folder.market, folder.cycle), 0))
    is_daily = folder.cycle is Cycle.DAILY
    step = DAY_MS if is_daily else 1
    at, last = (
        (first_ms // DAY_MS, (end_ms - 1) // DAY_MS) if is_daily else _months(first_ms, end_ms)
    )
    while at <= last:
        start_ms = at * step if is_daily else MONTHS.open_of(at)
        file = File(folder, _text(start_ms)[: 10 if is_daily else 7])
        if published_ms(file) > now_ms:
            return
        yield file.period
        at += 1


def _months(first_ms: int, end_ms: int) -> tuple[int, int]:
    return MONTHS.index_at(first_ms), MONTHS.index_at(end_ms - 1)


def _text(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).date().isoformat()

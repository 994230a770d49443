"""The archive's files of each series, listed once and reused for some minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from klinefleet.workers.binance.archive_names import has_daily
from klinefleet.workers.domain.errors import Transient
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import iso, month_start
from klinefleet.workers.support.retry import ARCHIVE_LISTING

if TYPE_CHECKING:
    from klinefleet.workers.binance.archive import Archive
    from klinefleet.workers.binance.archive_listing import Published


#: Seconds for which a listing is reused; files appear once a day.
FRESH_S = 600.0
#: Months that may have daily files and no monthly one yet: it comes weeks after the month's end.
_MONTHS_AHEAD = 4
#: Series whose listings one process keeps.
MAX_KEPT = 2000


class ArchiveIndex:
    """The files of one series. FleetError where the archive does not list them."""

    def __init__(
        self, archive: Archive, series: Series, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._archive = archive
        self._series = series
        self._sleep = sleep
        self._listed: dict[tuple[Source, str], dict[str, Published]] = {}

    def monthly(self) -> dict[str, Published]:
        """Return the monthly files by month, YYYY-MM."""
        return self._list(Source.MONTHLY, "")

    def daily(self, month: str) -> dict[str, Published]:
        """Return the daily files of a month by day, YYYY-MM-DD; {} where the kind has none."""
        return self._list(Source.DAILY, month) if has_daily(self._series) else {}

    def published_span(self) -> Span | None:
        """Return the time from the first file to the end of the last; None without files.

        It begins with a month where there are monthly files, and ends with a day if one is listed.
        """
        months = [published.file.span for published in self.monthly().values()]
        if months:
            return Span(months[0].start_ms, self._end_ms(months[-1]))
        listed = self._list(Source.DAILY, "") if has_daily(self._series) else {}
        days = [published.file.span for published in listed.values()]
        return Span(days[0].start_ms, days[-1].end_ms) if days else None

    def _end_ms(self, last: Span) -> int:
        """Return the end of the last file, ms UTC.

        A symbol may end within its last month, or in a month that has daily files only.
        """
        ends_ms, month = last.end_ms, last
        for _ in range(_MONTHS_AHEAD):
            month = Span(month.end_ms, Interval.MO1.advance(month.end_ms, 1))
            if not (days := self._days(month.start_ms)):
                break
            ends_ms = days[-1].end_ms
        within = self._days(last.start_ms) if ends_ms == last.end_ms else []
        return within[-1].end_ms if within else ends_ms

    def _days(self, ms: int) -> list[Span]:
        """Return the days that have a file, of the month that holds `ms`."""
        month = iso(month_start(ms))[: len("2024-01")]
        return [published.file.span for published in self.daily(month).values()]

    def _list(self, source: Source, month: str) -> dict[str, Published]:
        key = (source, month)
        if key not in self._listed:
            retrying = ARCHIVE_LISTING.retrying(
                lambda error: isinstance(error, Transient), sleep=self._sleep
            )
            self._listed[key] = retrying(self._archive.published, self._series, source, month)
        return self._listed[key]


class ArchiveIndexCache:
    """The archive indexes of one process, each for as long as its listings are fresh."""

    def __init__(
        self,
        archive: Callable[[], Archive],
        clock: Callable[[], float] = time.monotonic,
        *,
        sleep: Callable[[float], None] = time.sleep,
        max_kept: int = MAX_KEPT,
    ) -> None:
        self._archive = archive
        self._clock = clock
        self._sleep = sleep
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._kept: dict[Series, tuple[float, ArchiveIndex]] = {}

    def get(self, series: Series, *, fresh: bool = False) -> ArchiveIndex:
        """Return the index of a series, a new one if `fresh`. It lists when it is first used."""
        now = self._clock()
        with self._lock:
            made, index = self._kept.pop(series, (float("-inf"), None))
            if fresh or index is None or now - made > FRESH_S:
                made, index = now, ArchiveIndex(self._archive(), series, self._sleep)
            self._kept[series] = made, index
            while len(self._kept) > self._max_kept:
                del self._kept[next(iter(self._kept))]
        return index

"""What the archive has published of a series, asked for once and believed for some minutes."""

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


#: How long a listing is believed, seconds; files appear once a day.
FRESH_S = 600.0
#: Months that may have daily files before they have a monthly one: published weeks after their end,
#: late for weeks.
_MONTHS_AHEAD = 4
#: Series whose listings are kept at once.
MOST_KEPT = 2000


class ArchiveIndex:
    """The files of one series. Raises what the archive answered where it does not tell them."""

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
        """Return the daily files of a month by day, YYYY-MM-DD; none of a series that has only
        monthly ones.
        """
        return self._list(Source.DAILY, month) if has_daily(self._series) else {}

    def published_span(self) -> Span | None:
        """Return the time from the first file to the end of the last, to the month or better; None
        without files.
        """
        months = self.monthly()
        if not months:
            days = self._list(Source.DAILY, "") if has_daily(self._series) else {}
            spanned = [published.file.span for published in days.values()]
        else:
            of_months = [published.file.span for published in months.values()]
            return Span(of_months[0].start_ms, self._end_ms(of_months[-1]))
        return Span(spanned[0].start_ms, spanned[-1].end_ms) if spanned else None

    def _end_ms(self, last: Span) -> int:
        """Return the end of the last file: a symbol may end within its last month, or before there
        is a file of it.
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
        """Return the days of a month that there are files of."""
        return [
            published.file.span
            for published in self.daily(iso(month_start(ms))[: len("2024-01")]).values()
        ]

    def _list(self, source: Source, month: str) -> dict[str, Published]:
        key = (source, month)
        if key not in self._listed:
            retrying = ARCHIVE_LISTING.retrying(
                lambda error: isinstance(error, Transient), sleep=self._sleep
            )
            self._listed[key] = retrying(self._archive.published, self._series, source, month)
        return self._listed[key]


class ArchiveIndexCache:
    """The shelves of one process, each for as long as its listings are fresh."""

    def __init__(
        self,
        archive: Callable[[], Archive],
        clock: Callable[[], float] = time.monotonic,
        *,
        sleep: Callable[[float], None] = time.sleep,
        most_kept: int = MOST_KEPT,
    ) -> None:
        self._archive = archive
        self._clock = clock
        self._sleep = sleep
        self._most_kept = most_kept
        self._lock = threading.Lock()
        self._kept: dict[Series, tuple[float, ArchiveIndex]] = {}

    def get(self, series: Series, *, fresh: bool = False) -> ArchiveIndex:
        """Return the shelf of a series, `fresh` one that knows nothing yet; nothing is asked."""
        now = self._clock()
        with self._lock:
            made, shelf = self._kept.pop(series, (float("-inf"), None))
            if fresh or shelf is None or now - made > FRESH_S:
                made, shelf = now, ArchiveIndex(self._archive(), series, self._sleep)
            self._kept[series] = made, shelf
            while len(self._kept) > self._most_kept:
                del self._kept[next(iter(self._kept))]
        return shelf

"""The archive's files of each series, listed once and reused for some minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from klinefleet.workers.binance.archive_listing import (
    FIRST_KEYS,
    days_from,
    earlier_file,
    first_file,
    last_file,
)
from klinefleet.workers.binance.archive_names import folder, has_daily
from klinefleet.workers.domain.errors import Transient
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.support.retry import ARCHIVE_LISTING

if TYPE_CHECKING:
    from klinefleet.workers.binance.archive import Archive
    from klinefleet.workers.binance.archive_listing import Published


#: Seconds for which a listing is reused; files appear once a day.
FRESH_S = 600.0
#: Series whose listings one process keeps.
MAX_KEPT = 2000


class ArchiveIndex:
    """The files of one series. FleetError where the archive does not list them."""

    def __init__(
        self, archive: Archive, series: Series, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._archive = archive
        self._series = series
        self._retrying = ARCHIVE_LISTING.retrying(
            lambda error: isinstance(error, Transient), sleep=sleep
        )
        self._listed: dict[tuple[Source, str], dict[str, Published]] = {}

    def monthly(self) -> dict[str, Published]:
        """Return the monthly files by month, YYYY-MM."""
        return self._list(Source.MONTHLY, "")

    def daily(self, month: str) -> dict[str, Published]:
        """Return the daily files of a month by day, YYYY-MM-DD; {} where the kind has none."""
        return self._list(Source.DAILY, month) if has_daily(self._series) else {}

    def first_file(self) -> Span | None:
        """Return the time of the first file, a day's or a month's; None without files."""
        month = next((published.file.span for published in self.monthly().values()), None)
        return earlier_file(self._first_day() if has_daily(self._series) else None, month)

    def last_end_ms(self) -> int | None:
        """Return the end of the last file, ms UTC; None without files.

        It is that of a day if one is listed of the last month or after it.
        """
        month = max(self.monthly(), default=None)
        if has_daily(self._series):
            prefix, marker = days_from(self._series, month)
            listed = self._retrying(lambda: list(self._archive.keys(prefix, marker=marker)))
            if day := last_file(listed):
                return day.span.end_ms
        return self.monthly()[month].file.span.end_ms if month else None

    def _first_day(self) -> Span | None:
        prefix = folder(self._series, Source.DAILY)
        file = self._retrying(lambda: first_file(self._archive.keys(prefix, limit=FIRST_KEYS)))
        return file.span if file else None

    def _list(self, source: Source, month: str) -> dict[str, Published]:
        key = (source, month)
        if key not in self._listed:
            self._listed[key] = self._retrying(self._archive.published, self._series, source, month)
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

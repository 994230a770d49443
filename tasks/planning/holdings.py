"""What the lake and the raw zone hold of a request's series."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from klinefleet.tasks.requests.request import Request
from klinefleet.workers.binance.archive_index import ArchiveIndex
from klinefleet.workers.binance.archive_listing import Published
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import Partition, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.coverage import HeldTime
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import files_of
from klinefleet.workers.support.once import once

#: From this many symbols on, one listing of the whole kind and interval replaces one per symbol.
_MANY_SYMBOLS = 8


class Holdings:
    """The holdings of a request's series. Raises StoreFault if the store does not answer."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._request = request
        self._group: _GroupHoldings | None = None

    def load(self, series: Series, *, fresh: bool = False) -> SeriesHoldings:
        """Return the holdings of a series; `fresh` reads them again from the store."""
        if fresh or len(self._request.symbols) < _MANY_SYMBOLS:
            return SeriesHoldings(self._services, series)
        if self._group is None:
            self._group = _GroupHoldings(self._services, self._request)
        return SeriesHoldings(self._services, series, self._group)


class SeriesHoldings:
    """The time of a series in the lake, as read at `read_ms` (Redis time), and in the raw zone.

    The raw zone is listed when it is first needed.
    """

    def __init__(
        self, services: Services, series: Series, group: _GroupHoldings | None = None
    ) -> None:
        self._services = services
        self.series = series
        self._list_raw: Callable[[], list[RawEntry]]
        if group:
            self.read_ms, self.in_lake = group.read_ms, group.in_lake.get(series.symbol, HeldTime())
            self._list_raw = lambda: group.raw.get(series.symbol, [])
        else:
            self.read()

    def read(self) -> None:
        """Read the holdings from the store anew."""
        self.read_ms = now_ms(self._services.redis)
        self.in_lake = self._services.coverage.held(self.series)
        self._list_raw = lambda: self._services.raw_zone.entries(self.series)
        for name in ("_raw", "in_lake_or_raw", "_origins"):
            self.__dict__.pop(name, None)

    @property
    def covered(self) -> list[Span]:
        """The spans that the lake covers, oldest first."""
        return self.in_lake.covered

    @once
    def in_lake_or_raw(self) -> list[Span]:
        """The spans in the lake or the raw zone, oldest first."""
        return spans.union([*self.covered, *(entry.span for entry in self._raw)])

    @property
    def extent(self) -> Span:
        """The span from the first to the last time in the lake, gaps included."""
        if not self.covered:
            return Span(0, 0)
        return Span(self.covered[0].start_ms, self.covered[-1].end_ms)

    def has_uncompacted(self, partition: Partition) -> bool:
        """Return True if raw objects of the partition hold time that the lake lacks."""
        return any(
            spans.gaps(self.covered, entry.span)
            for entry in self._raw
            if entry.partition == partition
        )

    def is_complete(self, partition: Partition, target: Span) -> bool:
        """Return True if the lake holds `target` and nothing of the partition needs compaction."""
        return not spans.gaps(self.covered, target) and not self.has_uncompacted(partition)

    def republished(self, partition: Partition, target: Span) -> list[Window]:
        """Return windows for archive files published again since the lake took rows from them."""
        index, parts = self._archive_index, dict[ArchiveFile, list[Span]]()
        for file, span, etag in self._archive_origins(partition, target):
            published = published_files(index, file).get(file.period)
            if published and published.etag != etag:
                parts.setdefault(file, []).append(span)
        # One window from the first to the last part: the gaps between them came from REST, and the
        # new file may have those rows.
        return [
            Window(partition, Span(pieces[0].start_ms, pieces[-1].end_ms), file.source)
            for file, pieces in parts.items()
        ]

    def _archive_origins(
        self, partition: Partition, target: Span
    ) -> Iterator[tuple[ArchiveFile, Span, str]]:
        """Yield file, span and etag of the lake's rows of `target` that came from the archive."""
        for origin in self._origins:
            span = origin.span.clip(target)
            if origin.source.is_archive and not span.is_empty:
                for file, part in files_of(Window(partition, span, origin.source)):
                    yield file, part, origin.etag

    @once
    def _archive_index(self) -> ArchiveIndex:
        """The archive's files as listed now: a list minutes old may lack the newest files."""
        return self._services.archive_indexes.get(self.series, fresh=True)

    @once
    def _origins(self) -> list[Answer]:
        return self._services.coverage.origins(self.series)

    @once
    def _raw(self) -> list[RawEntry]:
        return self._list_raw()


class _GroupHoldings:
    """The holdings of all symbols of one market, kind and interval."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._group = request.market, request.kind, request.interval
        self.read_ms = now_ms(services.redis)
        self.in_lake = services.coverage.held_by_group(*self._group)

    @once
    def raw(self) -> dict[str, list[RawEntry]]:
        """The raw objects by symbol."""
        return self._services.raw_zone.entries_of_group(*self._group)


def published_files(index: ArchiveIndex, file: ArchiveFile) -> dict[str, Published]:
    """Return the listing, by period, in which a file stands if it is published."""
    return index.monthly() if file.source == Source.MONTHLY else index.daily(file.period[:7])

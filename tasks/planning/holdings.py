"""What of a request is in the lake or waits in the raw zone: looked up for all its symbols at once,
or one by one.
"""

from __future__ import annotations

from collections.abc import Callable

from klinefleet.tasks.requests.request import Request
from klinefleet.workers.binance.archive_index import ArchiveIndex
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import Block, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footer import Origin
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import files_of
from klinefleet.workers.support.once import once

#: Requests of so many symbols are looked up in one listing of all that the lake holds of their kind
#: and interval.
_MANY = 8


class Holdings:
    """What is held of a request's series. StoreFault where the store does not tell."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._request = request
        self._group: _Group | None = None

    def of(self, series: Series, *, anew: bool = False) -> SeriesHoldings:
        """Return what is held of a series; `anew` where what was looked up before must not do."""
        if anew or len(self._request.symbols) < _MANY:
            return SeriesHoldings(self._services, series)
        if self._group is None:
            self._group = _Group(self._services, self._request)
        return SeriesHoldings(self._services, series, self._group)


class SeriesHoldings:
    """What of a series is in the lake, as read at `read_ms` (Redis time), or waits in the raw zone.

    The raw zone is listed when it is asked about.
    """

    def __init__(self, services: Services, series: Series, group: _Group | None = None) -> None:
        self._services = services
        self.series = series
        self._look_for_raw: Callable[[], list[RawEntry]]
        if group:
            self.read_ms, self.lake = group.read_ms, group.lake.get(series.symbol, [])
            self._look_for_raw = lambda: group.raw.get(series.symbol, [])
        else:
            self.read()

    def read(self) -> None:
        """Read it, again."""
        self.read_ms = now_ms(self._services.redis)
        self.lake = self._services.coverage.covered(self.series)
        """The time that the lake holds, oldest first."""
        self._look_for_raw = lambda: self._services.raw_zone.entries(self.series)
        for name in ("_raw", "spans", "_origins"):
            self.__dict__.pop(name, None)

    @once
    def spans(self) -> list[Span]:
        """The time that is in the lake or in the raw zone."""
        return spans.union([*self.lake, *(entry.span for entry in self._raw)])

    def is_raw_in(self, block: Block) -> bool:
        """Whether raw objects of the block hold time that the lake does not."""
        return any(spans.gaps(self.lake, entry.span) for entry in self._raw if entry.block == block)

    def is_whole(self, block: Block, wanted: Span) -> bool:
        """Whether nothing of `wanted` is left to do."""
        return not spans.gaps(self.lake, wanted) and not self.is_raw_in(block)

    def reissued(self, block: Block, wanted: Span) -> list[Window]:
        """Return windows for the archive files of `wanted` that were published anew since their
        rows were taken.
        """
        shelf, anew = self._shelf, dict[ArchiveFile, list[Span]]()
        for origin in self._origins:
            span = origin.span.clip(wanted)
            if origin.source.is_archive and not span.is_empty:
                for file, of_file in files_of(Window(block, span, origin.source)):
                    listed = (
                        shelf.monthly()
                        if file.source is Source.MONTHLY
                        else shelf.daily(file.period[:7])
                    )
                    published = listed.get(file.period)
                    if published and published.etag != origin.etag:
                        anew.setdefault(file, []).append(of_file)
        # REST answered for the gaps of a file between its pieces; the new one may tell them.
        return [
            Window(block, Span(pieces[0].start_ms, pieces[-1].end_ms), file.source)
            for file, pieces in anew.items()
        ]

    @property
    def held_from_to(self) -> Span:
        """The time from the first to the last that the lake holds."""
        return Span(self.lake[0].start_ms, self.lake[-1].end_ms) if self.lake else Span(0, 0)

    @once
    def _shelf(self) -> ArchiveIndex:
        """What is published now: what was listed minutes ago does not tell what was published
        since.
        """
        return self._services.archive_indexes.get(self.series, fresh=True)

    @once
    def _origins(self) -> list[Origin]:
        return self._services.coverage.origins(self.series)

    @once
    def _raw(self) -> list[RawEntry]:
        return self._look_for_raw()


class _Group:
    """All that is held of one market, kind and interval."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._group = request.market, request.kind, request.interval
        self.read_ms = now_ms(services.redis)
        self.lake = services.coverage.covered_group(*self._group)

    @once
    def raw(self) -> dict[str, list[RawEntry]]:
        """The raw objects by symbol."""
        return self._services.raw_zone.entries_of_group(*self._group)

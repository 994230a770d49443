"""When a series can have rows: by all who know something of it.

`onboardDate`, `status`, `deliveryDate`, the catalog, REST's first and newest row, the archive's
first and last file: each is a hint, and none cuts off what another shows. The beginning is the
earliest that any of them shows, the end the latest. A source is asked only where its answer can
make the requested time longer.

A life ends if exchangeInfo says so, by a documented status or a date of delivery that has passed,
and REST has no row of the last day. If exchangeInfo lacks the symbol, REST is asked for its newest
row, unless the archive has had no file of it for a week either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from klinefleet.workers.binance.symbol_cache import FoundListing, SymbolCache
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS
from klinefleet.workers.sources.policy import Mode
from klinefleet.workers.sources.source_dates import ALIVE_MS, NO_FILES_MS, NewestRow, SourceDates
from klinefleet.workers.support.once import once

if TYPE_CHECKING:
    from klinefleet.workers.lake.catalog import Catalog, CatalogEntry

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Traded:
    """The part of a requested time in which a series can have rows."""

    span: Span
    unproved: tuple[tuple[Span, FleetError], ...] = ()
    """Requested time outside of it that REST was to be asked about, and why it did not answer."""


class TradingSpans:
    """The trading span of each series. Nothing is requested outside of it.

    `catalog` returns a market's catalog of the last day, None where there is none.
    """

    def __init__(
        self,
        symbol_cache: SymbolCache,
        dates: SourceDates,
        catalog: Callable[[Market], Catalog | None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._symbol_cache = symbol_cache
        self._dates = dates
        self._catalog = catalog
        self._clock_ms = clock_ms

    def within(
        self,
        series: Series,
        requested: Span,
        mode: Mode = Mode.AUTO,
        *,
        rest_fault: FleetError | None = None,
        may_ask_rest: bool = True,
    ) -> Traded:
        """Return the part of `requested` in which the series can have rows.

        Only sources that `mode` allows are asked. `rest_fault`: why REST is known not to answer; it
        is not asked then. Without `may_ask_rest` it is not asked either, and nothing is unproved:
        the answer may be too long. FleetError where the archive is the only one to ask, and does
        not answer.
        """
        lookup = _Lookup(
            series,
            requested,
            mode,
            self._dates,
            self._symbol_cache.find(series),
            *self._entry(series, mode),
            self._clock_ms(),
            rest_fault,
            may_ask_rest,
        )
        return lookup.answer()

    def is_beginning_known(self, series: Series) -> bool:
        """Return True if some hint of the series' beginning needs no call of REST."""
        found, (entry, _) = self._symbol_cache.find(series), self._entry(series, Mode.AUTO)
        return (
            (entry is not None and entry.begin_ms is not None)
            or (found.is_loaded and (found.listing is None or found.listing.onboard_ms is not None))
            or self._dates.known_first_row_ms(series) is not None
        )

    def _entry(self, series: Series, mode: Mode) -> tuple[CatalogEntry | None, bool]:
        """Return the symbol's entry in the catalog, whose dates are those of klines.

        And whether all sources that `mode` allows were asked for it.
        """
        catalog = self._catalog(series.market) if series.kind.is_dated_by_catalog else None
        if catalog is None:
            return None, False
        is_whole = (catalog.has_rest or mode is Mode.ARCHIVE) and (
            catalog.has_archive or mode is Mode.REST
        )
        return catalog.get(series.symbol), is_whole


@dataclass
class _Lookup:
    """One question for a trading span: the hints that are known, and those asked for on the way."""

    series: Series
    requested: Span
    mode: Mode
    dates: SourceDates
    found: FoundListing
    entry: CatalogEntry | None
    is_entry_whole: bool
    now_ms: int
    rest_fault: FleetError | None
    may_ask_rest: bool
    archive_fault: FleetError | None = None
    unproved: list[tuple[Span, FleetError]] = field(default_factory=list)

    def answer(self) -> Traded:
        end_ms = self._end_ms()
        start_ms = self._start_ms()
        if self.archive_fault and (self.mode is Mode.ARCHIVE or self._is_forgotten):
            raise self.archive_fault
        requested = self.requested
        if start_ms is None:
            return Traded(Span(requested.end_ms, requested.end_ms), tuple(self.unproved))
        span = requested.clip(Span(self.series.interval.floor(start_ms), end_ms))
        return Traded(span, tuple(self.unproved))

    def _end_ms(self) -> int:
        listing = self.found.listing
        if listing and not listing.may_have_ended(self.now_ms):
            return NEVER_MS
        delivered_ms = listing.delivered_ms(self.now_ms) if listing else None
        ends = [ms for ms in (delivered_ms, self._catalog_end_ms) if ms is not None]
        if max(ends, default=0) >= self.requested.end_ms or self._is_end_in_catalog:
            return max(ends)
        if (files_end_ms := self._files_end_ms) is not None:
            ends.append(files_end_ms)
            if files_end_ms >= self.requested.end_ms:
                return files_end_ms
        if listing is None and self.found.is_loaded and self._are_files_old:
            return max(ends)
        if self.mode is Mode.ARCHIVE:
            is_over = bool(ends) and (self.found.is_loaded or self._are_files_old)
            return max(ends) if is_over else NEVER_MS
        newest = self._newest
        if newest and newest.end_ms is not None:
            ends.append(newest.end_ms)
            if self.now_ms - newest.end_ms < ALIVE_MS:
                return NEVER_MS
        end_ms = max(ends, default=NEVER_MS)
        if newest is None and self.rest_fault:
            self._leave_unproved(Span(end_ms, self.requested.end_ms))
        return end_ms

    def _start_ms(self) -> int | None:
        """Return the earliest beginning that anybody shows; None where nobody shows any."""
        listing, entry, requested = self.found.listing, self.entry, self.requested
        dated = [listing.onboard_ms if listing else None]
        dated += [entry.onboard_ms, entry.first_ms] if entry else []
        hints = [ms for ms in dated if ms is not None]
        is_known = self.is_entry_whole and entry is not None and entry.first_ms is not None
        if is_known or min(hints, default=NEVER_MS) <= requested.start_ms:
            return min(hints)
        if (first_ms := self._first_row_ms(min(hints, default=None))) is not None:
            hints.append(first_ms)
        start_ms = min(hints, default=None)
        file = self._ask_archive(self.dates.first_file)
        # A month's file shows a row of that month, not one of its first day.
        if file and (start_ms is None or file.end_ms <= start_ms):
            start_ms = file.start_ms
        if start_ms is None and not self._is_forgotten and not self._asks_rest:
            return requested.start_ms
        if self.rest_fault and self._asks_rest:
            end_ms = requested.end_ms if start_ms is None else start_ms
            self._leave_unproved(Span(requested.start_ms, end_ms))
        return start_ms

    def _leave_unproved(self, span: Span) -> None:
        span = span.clip(self.requested)
        if self.rest_fault and not span.is_empty:
            self.unproved.append((span, self.rest_fault))

    @property
    def _asks_rest(self) -> bool:
        return self.mode is not Mode.ARCHIVE and self.may_ask_rest and not self._is_forgotten

    @once
    def _is_forgotten(self) -> bool:
        """Whether REST no longer has the symbol: by its list, and by its answer or the archive."""
        if not self.found.is_loaded:
            return False
        if self.found.listing:
            return self._newest_if_asked is not None and not self._newest_if_asked.is_listed
        if self._are_files_old or self.mode is Mode.ARCHIVE or not self.may_ask_rest:
            return True
        return self._newest is not None and not self._newest.is_listed

    @property
    def _catalog_end_ms(self) -> int | None:
        """The end of the catalog, where what it was made from is still so."""
        entry, listing = self.entry, self.found.listing
        if entry is None or (listing and entry.status != listing.status):
            return None
        return entry.last_ms

    @property
    def _is_end_in_catalog(self) -> bool:
        """Whether the catalog has asked all sources for the end, and it is no new one."""
        end_ms = self._catalog_end_ms
        is_known = self.is_entry_whole and end_ms is not None
        return is_known and (self.found.listing is not None or self._are_files_old)

    @once
    def _files_end_ms(self) -> int | None:
        return self._ask_archive(self.dates.last_file_end_ms)

    @property
    def _are_files_old(self) -> bool:
        end_ms = self._catalog_end_ms or self._files_end_ms
        return end_ms is not None and self.now_ms - end_ms > NO_FILES_MS

    @property
    def _newest_if_asked(self) -> NewestRow | None:
        newest: NewestRow | None = self.__dict__.get("_newest")
        return newest

    @once
    def _newest(self) -> NewestRow | None:
        """REST's newest row; None where it is not asked, or does not answer."""
        return self._ask_rest(lambda: self.dates.newest_row(self.series))

    def _first_row_ms(self, known_ms: int | None) -> int | None:
        if self._is_forgotten:
            return None
        if not self._asks_rest:
            return self.dates.known_first_row_ms(self.series)
        return self._ask_rest(lambda: self.dates.first_row_ms(self.series, known_ms))

    def _ask_rest(self, ask: Callable[[], T]) -> T | None:
        if self.mode is Mode.ARCHIVE or not self.may_ask_rest or self.rest_fault:
            return None
        try:
            return ask()
        except FleetError as error:
            self.rest_fault = error
            return None

    def _ask_archive(self, ask: Callable[[Series], T]) -> T | None:
        if self.mode is Mode.REST or self.archive_fault:
            return None
        try:
            return ask(self.series)
        except FleetError as error:
            logger.warning("%s: its files are unknown: %s", self.series, error)
            self.archive_fault = error
            return None

"""When a series could have rows: what the catalog, exchangeInfo and the first candle say, or the
archive's files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from klinefleet.workers.binance.archive_index import ArchiveIndexCache
from klinefleet.workers.binance.exchange_info import ALIVE
from klinefleet.workers.binance.symbol_cache import SymbolCache
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span

if TYPE_CHECKING:
    from klinefleet.workers.lake.catalog import Catalog, CatalogEntry


logger = logging.getLogger(__name__)


class ListingDates:
    """Lives of series. Before its beginning and after its end nothing is asked of anybody.

    `catalog` returns a market's catalog that is at most a day old, None where there is none.
    """

    def __init__(
        self,
        symbol_cache: SymbolCache,
        archive_indexes: ArchiveIndexCache,
        catalog: Callable[[Market], Catalog | None],
    ) -> None:
        self._symbol_cache = symbol_cache
        self._archive_indexes = archive_indexes
        self._catalog = catalog

    def known_without_request(self, series: Series) -> bool:
        """Return whether `trading_span` needs no weight to tell."""
        entry = self._entry(series)
        is_in_catalog = entry is not None and entry.first_ms is not None
        return (
            is_in_catalog
            or self._symbol_cache.listing(series) is None
            or self._symbol_cache.is_trading_span_cached(series)
        )

    def trading_span(self, series: Series) -> Span:
        """Return the time in which the series can have rows.

        Of a symbol that REST has forgotten, the time of its files. Of one that no longer trades
        without a date of its end (spot's BREAK), the time until its last file; where the archive
        does not tell, no end.
        """
        listing, entry = self._symbol_cache.listing(series), self._entry(series)
        if listing is None:
            return (
                entry.life
                if entry and entry.last_ms
                else self._archive_indexes.get(series).published_span() or Span(0, 0)
            )
        if entry and entry.first_ms is not None and listing.onboard_ms is None:
            life = Span(series.interval.floor(entry.first_ms), entry.life.end_ms)
        else:
            life = self._symbol_cache.trading_span(series)
        if listing.status in ALIVE or listing.delivery_ms or (entry and entry.last_ms):
            return life
        try:
            of_files = self._archive_indexes.get(series).published_span()
        except FleetError as error:
            logger.warning("%s: the archive does not tell when it ended: %s", series, error)
            return life
        return Span(life.start_ms, max(life.start_ms, of_files.end_ms)) if of_files else life

    def _entry(self, series: Series) -> CatalogEntry | None:
        """Return what the catalog says; it speaks of klines, and other kinds may begin and end at
        other times.
        """
        catalog = self._catalog(series.market) if series.kind.is_dated_by_catalog else None
        return catalog.get(series.symbol) if catalog else None

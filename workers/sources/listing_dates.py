"""When a series trades: by the catalog, exchangeInfo, the first candle or the archive's files."""

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
    """The trading span of each series. Nothing is requested outside of it.

    `catalog` returns a market's catalog of the last day, None where there is none.
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
        """Return True if `trading_span` costs no weight."""
        entry = self._entry(series)
        is_in_catalog = entry is not None and entry.first_ms is not None
        return (
            is_in_catalog
            or self._symbol_cache.listing(series) is None
            or self._symbol_cache.is_trading_span_cached(series)
        )

    def trading_span(self, series: Series) -> Span:
        """Return the time in which the series can have rows, ms UTC.

        If REST has forgotten the symbol, it is the time of its files. If it no longer trades and
        has no date of its end (spot's BREAK), it ends with its last file, or has no end if the
        archive does not answer.
        """
        listing, entry = self._symbol_cache.listing(series), self._entry(series)
        if listing is None:
            if entry and entry.last_ms:
                return entry.trading_span
            return self._archive_indexes.get(series).published_span() or Span(0, 0)
        if entry and entry.first_ms is not None and listing.onboard_ms is None:
            trading = Span(series.interval.floor(entry.first_ms), entry.trading_span.end_ms)
        else:
            trading = self._symbol_cache.trading_span(series)
        is_end_known = listing.status in ALIVE or listing.delivery_ms or (entry and entry.last_ms)
        return trading if is_end_known else self._until_last_file(series, trading)

    def _until_last_file(self, series: Series, trading: Span) -> Span:
        try:
            published = self._archive_indexes.get(series).published_span()
        except FleetError as error:
            logger.warning("%s: the end of its trading is unknown: %s", series, error)
            return trading
        if published is None:
            return trading
        return Span(trading.start_ms, max(trading.start_ms, published.end_ms))

    def _entry(self, series: Series) -> CatalogEntry | None:
        """Return the symbol's entry in the catalog, whose dates are those of klines."""
        catalog = self._catalog(series.market) if series.kind.is_dated_by_catalog else None
        return catalog.get(series.symbol) if catalog else None

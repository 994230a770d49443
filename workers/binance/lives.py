"""When a series could have rows: what exchangeInfo says, the first candle, and for the rest the archive's files."""

from __future__ import annotations

import logging

from workers.binance.listings import Listings
from workers.binance.shelf import Shelves
from workers.errors import FleetError
from workers.model import Series, Span

logger = logging.getLogger(__name__)

#: What trades, whether or not it is halted for the moment.
_ALIVE = ("TRADING", "PENDING_TRADING", "HALT", "TRADING_HALT", "")


class Lives:
    """Lives of series. Before its beginning and after its end nothing is asked of anybody."""

    def __init__(self, listings: Listings, shelves: Shelves) -> None:
        self._listings = listings
        self._shelves = shelves

    def knows(self, series: Series) -> bool:
        """Return whether `of` needs no weight to tell."""
        return self._listings.of(series) is None or self._listings.knows_life(series)

    def of(self, series: Series) -> Span:
        """Return the time in which the series can have rows.

        Of a symbol that REST has forgotten, the time of its files. Of one that no longer trades without a date of its
        end (spot's BREAK), the time until its last file; where the archive does not tell, no end.
        """
        listing = self._listings.of(series)
        if listing is None:
            return self._shelves.of(series).life() or Span(0, 0)
        life = self._listings.life(series)
        if listing.status in _ALIVE or listing.delivery_ms:
            return life
        try:
            of_files = self._shelves.of(series).life()
        except FleetError as error:
            logger.warning("%s: the archive does not tell when it ended: %s", series, error)
            return life
        return Span(life.start_ms, max(life.start_ms, of_files.end_ms)) if of_files else life

"""klines.catalog: what exchangeInfo, the archive's key list and the first candles tell of every
symbol of a market.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from klinefleet.tasks.catalog_update.archive_scan import (
    ArchivedFiles,
    remembered_files,
    retried,
    scan_archive,
    side_by_side,
)
from klinefleet.workers.binance.exchange_info import ALIVE, Listing
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.symbols import is_symbol
from klinefleet.workers.lake.catalog import FRESH_MS, Catalog, CatalogEntry
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)
#: Quote assets by which a name is read that exchangeInfo has forgotten, besides those it still
#: tells.
_OLD_QUOTES = (
    "USDT",
    "BUSD",
    "TUSD",
    "USDC",
    "USDS",
    "PAX",
    "BKRW",
    "IDRT",
    "BTC",
    "ETH",
    "BNB",
    "USD",
    "TRY",
    "EUR",
)
#: What the archive appends to a symbol whose name was used again.
_SETTLED = "SETTLED"


def fresh_catalog(
    services: Services, market: Market, say: Callable[[str], None] = logger.info
) -> Catalog:
    """Return a catalog that is at most a day old: the one in the lake, or else a new one."""
    held = services.catalogs.newest(market)
    if held is not None and held.has_archive and now_ms(services.redis) - held.made_ms < FRESH_MS:
        return held
    return update_catalog(services, market, say)


def update_catalog(
    services: Services, market: Market, say: Callable[[str], None] = logger.info
) -> Catalog:
    """Make a market's catalog, keep it in the lake and return it; the old one stays until then.

    Where the archive does not answer, what the old one knew of it stands beside what exchangeInfo
    tells.

    Costs two listings of the market, three of each symbol of the archive (its intervals, monthly
    and daily, and its first file), two more where it no longer trades (its last files), and for
    each new spot symbol one call for its first candle.
    """
    began_ms, held = now_ms(services.redis), services.catalogs.newest(market)
    # Tells the budget its limit, too: before that only a trickle goes out.
    retried(lambda: services.symbol_cache.refresh(market))
    listed = {
        listing.symbol: listing
        for listing in retried(lambda: services.client(market).exchange_info()).listings
    }
    try:
        archived, has_archive = scan_archive(services, market, listed, say), True
    except FleetError as error:
        say(
            f"catalog {market}: {error.reason}; made of exchangeInfo and of what the last "
            "catalog knew"
        )
        archived, has_archive = remembered_files(held), False
    first = _first_candles(services, market, listed, held, say)
    quotes = sorted(
        {listing.quote for listing in listed.values() if listing.quote} | set(_OLD_QUOTES), key=len
    )
    entries = [
        _entry(market, symbol, listed.get(symbol), archived.get(symbol), first.get(symbol), quotes)
        for symbol in sorted(listed.keys() | archived.keys())
    ]
    made = Catalog(market, began_ms, entries, has_archive)
    say(f"catalog {market}: {len(made):,} symbols in {services.catalogs.store(made)}")
    return made


def _first_candles(
    services: Services,
    market: Market,
    listed: dict[str, Listing],
    held: Catalog | None,
    say: Callable[[str], None],
) -> dict[str, int | None]:
    """Return the open time of the first candle of each listed symbol; it never changes, so it is
    asked for once.
    """
    if market is not Market.SPOT:
        return {name: listing.onboard_ms for name, listing in listed.items()}
    known = {
        name: entry.first_ms
        for name in listed
        if held is not None and (entry := held.get(name)) and entry.in_rest
    }
    asked = [name for name in listed if known.get(name) is None and is_symbol(name)]

    def ask(name: str) -> int | None:
        return services.client(market).first_open_ms(Series(market, KLINES, Interval.M1, name))

    return known | dict(
        zip(asked, side_by_side(asked, ask, say, "first candles of spot"), strict=True)
    )


def _entry(
    market: Market,
    symbol: str,
    listing: Listing | None,
    files: ArchivedFiles | None,
    first_ms: int | None,
    quotes: list[str],
) -> CatalogEntry:
    base, quote = (listing.base, listing.quote) if listing else _guessed(symbol, quotes)
    has_ended = listing is None or listing.status not in ALIVE
    delivery_ms = listing.delivery_ms if listing else None
    archive_ms = files.first_ms if files else None
    return CatalogEntry(
        symbol,
        listing.status if listing else "",
        base,
        quote,
        (listing.pair if listing else "") or f"{base}{quote}",
        listing.contract_type if listing else "",
        listing.onboard_ms if listing else None,
        delivery_ms,
        archive_ms,
        first_ms if listing else archive_ms,
        ((files.last_ms if files else None) or delivery_ms) if has_ended else None,
        files.intervals if files else (),
        files is not None,
        listing is not None,
        listing is None,
    )


def _guessed(symbol: str, quotes: list[str]) -> tuple[str, str]:
    """Return base and quote as the name tells them, by the longest quote it ends in."""
    name = symbol.removesuffix(_SETTLED).partition("_")[0]
    quote = next(
        (quote for quote in reversed(quotes) if name.endswith(quote) and name != quote), ""
    )
    return name.removesuffix(quote), quote

"""Makes a market's catalog: its symbols in exchangeInfo and the archive, and when they traded."""

from __future__ import annotations

import logging
from collections.abc import Callable

from klinefleet.tasks.catalog_update.archive_scan import (
    ArchivedFiles,
    files_in_catalog,
    map_symbols,
    scan_archive,
    with_retries,
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
#: Quote assets that exchangeInfo no longer lists. They help to split the names of old symbols.
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
#: What the archive appends to a symbol whose name was given to another one later.
_SETTLED = "SETTLED"


def fresh_catalog(
    services: Services, market: Market, on_progress: Callable[[str], None] = logger.info
) -> Catalog:
    """Return a catalog that is at most a day old: the lake's, or else a new one."""
    held = services.catalogs.newest(market)
    if held is not None and held.has_archive and now_ms(services.redis) - held.made_ms < FRESH_MS:
        return held
    return update_catalog(services, market, on_progress)


def update_catalog(
    services: Services, market: Market, on_progress: Callable[[str], None] = logger.info
) -> Catalog:
    """Make a market's catalog, store it in the lake and return it.

    If the archive does not answer, its part is copied from the last catalog. If exchangeInfo does
    not, the error is raised and the last catalog stays.

    The cost is two listings of the market; three of each symbol in the archive (its monthly and
    daily intervals, and its first file), and two more if it no longer trades (its last files); and
    for each new spot symbol one call for its first candle.
    """
    began_ms, held = now_ms(services.redis), services.catalogs.newest(market)
    # This also sets the budget's limit: before, only a fraction of it is used.
    with_retries(lambda: services.symbol_cache.refresh(market))
    exchange_info = with_retries(lambda: services.client(market).exchange_info())
    listed = {listing.symbol: listing for listing in exchange_info.listings}
    try:
        archived, has_archive = scan_archive(services, market, listed, on_progress), True
    except FleetError as error:
        on_progress(f"catalog {market}: {error.reason}; its archive part is from the last catalog")
        archived, has_archive = files_in_catalog(held), False
    first_ms = _first_candles(services, market, listed, held, on_progress)
    quotes = _known_quotes(listed)
    entries = [
        _entry(symbol, listing, archived.get(symbol), first_ms[symbol])
        if (listing := listed.get(symbol))
        else _unlisted_entry(symbol, archived[symbol], quotes)
        for symbol in sorted(listed.keys() | archived.keys())
    ]
    catalog = Catalog(market, began_ms, entries, has_archive)
    key = services.catalogs.store(catalog)
    on_progress(f"catalog {market}: {len(catalog):,} symbols in {key}")
    return catalog


def _first_candles(
    services: Services,
    market: Market,
    listed: dict[str, Listing],
    held: Catalog | None,
    on_progress: Callable[[str], None],
) -> dict[str, int | None]:
    """Return the open time of each listed symbol's first candle, ms UTC.

    It never changes, so it is requested once. Futures have it in exchangeInfo.
    """
    if market is not Market.SPOT:
        return {symbol: listing.onboard_ms for symbol, listing in listed.items()}
    known: dict[str, int | None] = dict.fromkeys(listed)
    for symbol in listed:
        entry = held.get(symbol) if held is not None else None
        if entry and entry.in_rest:
            known[symbol] = entry.first_ms
    unknown = [symbol for symbol in listed if known[symbol] is None and is_symbol(symbol)]

    def fetch(symbol: str) -> int | None:
        return services.client(market).first_open_ms(Series(market, KLINES, Interval.M1, symbol))

    fetched = map_symbols(fetch, unknown, "first candles of spot", on_progress)
    return known | dict(zip(unknown, fetched, strict=True))


def _entry(
    symbol: str, listing: Listing, files: ArchivedFiles | None, first_ms: int | None
) -> CatalogEntry:
    """Return the entry of a symbol that exchangeInfo lists."""
    last_ms = None
    if listing.status not in ALIVE:
        last_ms = (files.last_ms if files else None) or listing.delivery_ms
    return CatalogEntry(
        symbol=symbol,
        status=listing.status,
        base=listing.base,
        quote=listing.quote,
        pair=listing.pair or f"{listing.base}{listing.quote}",
        contract_type=listing.contract_type,
        onboard_ms=listing.onboard_ms,
        delivery_ms=listing.delivery_ms,
        archive_ms=files.first_ms if files else None,
        first_ms=first_ms,
        last_ms=last_ms,
        intervals=files.intervals if files else (),
        in_archive=files is not None,
        in_rest=True,
        is_guessed=False,
    )


def _unlisted_entry(symbol: str, files: ArchivedFiles, quotes: list[str]) -> CatalogEntry:
    """Return the entry of a symbol that only the archive has."""
    base, quote = _guess_assets(symbol, quotes)
    return CatalogEntry(
        symbol=symbol,
        status="",
        base=base,
        quote=quote,
        pair=f"{base}{quote}",
        contract_type="",
        onboard_ms=None,
        delivery_ms=None,
        archive_ms=files.first_ms,
        first_ms=files.first_ms,
        last_ms=files.last_ms,
        intervals=files.intervals,
        in_archive=True,
        in_rest=False,
        is_guessed=True,
    )


def _known_quotes(listed: dict[str, Listing]) -> list[str]:
    """Return all quote assets, the shortest first."""
    quotes = {listing.quote for listing in listed.values() if listing.quote}
    return sorted(quotes | set(_OLD_QUOTES), key=len)


def _guess_assets(symbol: str, quotes: list[str]) -> tuple[str, str]:
    """Return base and quote of a symbol, split at the longest quote that it ends in."""
    name = symbol.removesuffix(_SETTLED).partition("_")[0]
    quote = next(
        (quote for quote in reversed(quotes) if name.endswith(quote) and name != quote), ""
    )
    return name.removesuffix(quote), quote

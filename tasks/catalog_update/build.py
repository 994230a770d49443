"""Makes a market's catalog: its symbols in exchangeInfo and the archive, and when they traded."""

from __future__ import annotations

import logging
from collections.abc import Callable

from klinefleet.tasks.catalog_update.archive_scan import (
    ArchivedFiles,
    files_in_catalog,
    scan_archive,
    with_retries,
)
from klinefleet.tasks.catalog_update.rest_dates import RestDates, ask_rest_dates
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.lake.catalog import FRESH_MS, Catalog, CatalogEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.source_dates import ALIVE_MS, NO_FILES_MS, NewestRow

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
    is_whole = held is not None and held.has_archive and held.has_rest
    if held and is_whole and now_ms(services.redis) - held.made_ms < FRESH_MS:
        return held
    return update_catalog(services, market, on_progress)


def update_catalog(
    services: Services, market: Market, on_progress: Callable[[str], None] = logger.info
) -> Catalog:
    """Make a market's catalog, store it in the lake and return it.

    If REST or the archive does not answer, its part is from the last catalog. If neither does, the
    error is raised and the last catalog stays.

    The cost is two listings of the market; four of each symbol in the archive (its monthly and
    daily intervals, and its first files), and two more if it no longer trades (its last files); one
    call for each new symbol's first candle, and one for the newest of each that may have ended.
    """
    began_ms, held = now_ms(services.redis), services.catalogs.newest(market)
    rest_fault: FleetError | None = None
    try:
        # This also sets the budget's limit: before, only a fraction of it is used.
        with_retries(lambda: services.symbol_cache.refresh(market))
        exchange_info = with_retries(lambda: services.client(market).exchange_info())
        listed = {listing.symbol: listing for listing in exchange_info.listings}
    except FleetError as error:
        rest_fault, listed = error, _listings_in_catalog(held)
        source = "the last catalog" if listed else "the archive alone"
        on_progress(f"catalog {market}: {error.reason}; its symbols are from {source}")
    trading = {name for name, one in listed.items() if not one.may_have_ended(began_ms)}
    try:
        archived = scan_archive(services, market, listed, trading, on_progress)
        has_archive = True
    except FleetError as error:
        if rest_fault:
            raise rest_fault from error
        on_progress(f"catalog {market}: {error.reason}; its archive part is from the last catalog")
        archived, has_archive = files_in_catalog(held), False
    if rest_fault:
        dates = _dates_in_catalog(held)
    else:
        dates = ask_rest_dates(services, market, listed, archived, held, began_ms, on_progress)
    quotes = _known_quotes(listed)
    entries = [
        _entry(symbol, listed.get(symbol), archived.get(symbol), dates, began_ms, quotes)
        for symbol in sorted(listed.keys() | archived.keys())
    ]
    catalog = Catalog(
        market, began_ms, entries, has_archive=has_archive, has_rest=rest_fault is None
    )
    key = services.catalogs.store(catalog)
    on_progress(f"catalog {market}: {len(catalog):,} symbols in {key}")
    return catalog


def _listings_in_catalog(catalog: Catalog | None) -> dict[str, Listing]:
    """Return the symbols of REST that a catalog has."""
    return {
        entry.symbol: Listing(
            entry.symbol,
            entry.status,
            entry.onboard_ms,
            entry.delivery_ms,
            entry.base,
            entry.quote,
            entry.pair,
            entry.contract_type,
        )
        for entry in (catalog.entries() if catalog else [])
        if entry.in_rest
    }


def _dates_in_catalog(catalog: Catalog | None) -> RestDates:
    """Return what REST said of its symbols when a catalog was made."""
    entries = [entry for entry in (catalog.entries() if catalog else []) if entry.in_rest]
    return RestDates(
        {entry.symbol: entry.first_ms for entry in entries},
        {entry.symbol: NewestRow(True, entry.last_ms) for entry in entries if entry.last_ms},
    )


def _entry(
    symbol: str,
    listing: Listing | None,
    files: ArchivedFiles | None,
    dates: RestDates,
    now_ms: int,
    quotes: list[str],
) -> CatalogEntry:
    """Return the entry of a symbol: the earliest beginning and the latest end that anybody shows.

    Base and quote are guessed from its name where exchangeInfo lacks it.
    """
    newest = dates.newest.get(symbol)
    if listing is None:
        base, quote = _guess_assets(symbol, quotes)
        told = Listing(symbol, "", None, None, base, quote)
    else:
        told = listing
    return CatalogEntry(
        symbol=symbol,
        status=told.status,
        base=told.base,
        quote=told.quote,
        pair=told.pair or f"{told.base}{told.quote}",
        contract_type=told.contract_type,
        onboard_ms=told.onboard_ms,
        delivery_ms=told.delivery_ms,
        archive_ms=files.first_ms if files else None,
        first_ms=_first_ms(dates.first_ms.get(symbol), told.onboard_ms, files),
        last_ms=_last_ms(listing, files, newest, now_ms),
        intervals=files.intervals if files else (),
        in_archive=files is not None,
        in_rest=listing is not None or (newest is not None and newest.is_listed),
        is_guessed=listing is None,
    )


def _first_ms(
    first_ms: int | None, onboard_ms: int | None, files: ArchivedFiles | None
) -> int | None:
    """Return the earliest candle that REST or a file shows, ms UTC; None where neither does.

    A file counts if it ends before REST's first candle, or else before the listing: a month's file
    shows a candle of that month, not one of its first day.
    """
    file = files.first if files else None
    known_ms = onboard_ms if first_ms is None else first_ms
    return file.start_ms if file and (known_ms is None or file.end_ms <= known_ms) else first_ms


def _last_ms(
    listing: Listing | None, files: ArchivedFiles | None, newest: NewestRow | None, now_ms: int
) -> int | None:
    """Return the latest end that anybody shows, ms UTC; None while it trades."""
    if listing and not listing.may_have_ended(now_ms):
        return None
    newest_ms = newest.end_ms if newest else None
    if newest_ms is not None and now_ms - newest_ms < ALIVE_MS:
        return None
    files_ms = files.last_ms if files else None
    is_unasked = listing is None and newest is None
    if is_unasked and files_ms is not None and now_ms - files_ms < NO_FILES_MS:
        return None
    ends = (files_ms, newest_ms, listing.delivered_ms(now_ms) if listing else None)
    return max((ms for ms in ends if ms is not None), default=None)


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

"""Writes reports of the catalogs as CSV: first dates, and symbols that several markets have."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import iso
from klinefleet.workers.lake.catalog import Catalog, CatalogEntry

_DATES_HEADER = ("market", "symbol", "earliest_date", "available_intervals", "first_candle")
#: COIN-M quotes in USD what the other markets quote in USDT.
_COIN_M_QUOTES = {"USD": "USDT"}


def write_reports(catalogs: Mapping[Market, Catalog], folder: Path) -> Iterator[tuple[Path, int]]:
    """Write all reports into a folder; yield each file and its number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    dates = {market: list(_earliest_dates(catalog)) for market, catalog in catalogs.items()}
    for market, rows in dates.items():
        yield _write(folder / f"{market}_earliest_dates.csv", _DATES_HEADER, rows)
    all_dates = [row for market in sorted(dates, key=str) for row in dates[market]]
    yield _write(folder / "all_markets_earliest_dates.csv", _DATES_HEADER, all_dates)
    spot_um = [Market.SPOT, Market.USD_M]
    for markets in (spot_um, [*spot_um, Market.COIN_M]):
        names = [str(market) for market in markets]
        path = folder / f"{'_'.join(names)}_symbols.csv"
        yield _write(path, ["base", "quote", *names], list(_shared_symbols(catalogs, markets)))


def _earliest_dates(catalog: Catalog) -> Iterator[list[str]]:
    """Yield the row of each symbol: its first day in the archive, else that of its first candle."""
    for entry in catalog.entries():
        start_ms = entry.archive_ms if entry.archive_ms is not None else entry.first_ms
        if start_ms is not None:
            yield [
                str(catalog.market),
                entry.symbol,
                iso(start_ms)[:10],
                ",".join(entry.intervals),
                iso(entry.first_ms) if entry.first_ms is not None else "",
            ]


def _shared_symbols(
    catalogs: Mapping[Market, Catalog], markets: Sequence[Market]
) -> Iterator[list[str]]:
    """Yield base and quote that all markets have, and each market's symbol of them."""
    by_market = [_symbols_by_assets(catalogs[market]) for market in markets]
    shared = set.intersection(*(set(symbols) for symbols in by_market))
    for assets in sorted(shared):
        yield [*assets, *(symbols[assets] for symbols in by_market)]


def _symbols_by_assets(catalog: Catalog) -> dict[tuple[str, str], str]:
    """Return the first symbol of each base and quote, without contracts that expire."""
    symbols: dict[tuple[str, str], str] = {}
    quotes = _COIN_M_QUOTES if catalog.market is Market.COIN_M else {}
    for entry in catalog.entries():
        if entry.base and entry.quote and not _expires(entry):
            assets = entry.base, quotes.get(entry.quote, entry.quote)
            symbols.setdefault(assets, entry.symbol)
    return symbols


def _expires(entry: CatalogEntry) -> bool:
    """Return True for a delivery contract, by its type or a name like BTCUSDT_241227."""
    return "QUARTER" in entry.contract_type or entry.symbol.rpartition("_")[2].isdecimal()


def _write(path: Path, header: Sequence[str], rows: list[list[str]]) -> tuple[Path, int]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path, len(rows)

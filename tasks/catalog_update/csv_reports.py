"""The catalog's reports: since when there is what, and which symbols are on several markets, as
CSV.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import iso
from klinefleet.workers.lake.catalog import Catalog, CatalogEntry

_EARLIEST = ("market", "symbol", "earliest_date", "available_intervals", "first_candle")
#: COIN-M is quoted in USD where the others have the dollar's stand-in.
_DOLLARS = {"USD": "USDT"}


def write_reports(catalogs: Mapping[Market, Catalog], folder: Path) -> Iterator[tuple[Path, int]]:
    """Write every report into a folder; yields each file and how many rows it has."""
    folder.mkdir(parents=True, exist_ok=True)
    earliest = {market: list(_earliest(catalog)) for market, catalog in catalogs.items()}
    for market, rows in earliest.items():
        yield _write(folder / f"{market}_earliest_dates.csv", _EARLIEST, rows)
    everything = [row for market in sorted(earliest, key=str) for row in earliest[market]]
    yield _write(folder / "all_markets_earliest_dates.csv", _EARLIEST, everything)
    both, spot, um, cm = ["base", "quote"], Market.SPOT, Market.USD_M, Market.COIN_M
    yield _write(
        folder / "spot_um_symbols.csv", [*both, "spot", "um"], list(_shared(catalogs, [spot, um]))
    )
    yield _write(
        folder / "spot_um_cm_symbols.csv",
        [*both, "spot", "um", "cm"],
        list(_shared(catalogs, [spot, um, cm])),
    )


def _earliest(catalog: Catalog) -> Iterator[list[str]]:
    """Yield each symbol's first day in the archive (its first candle's where it has none), and its
    first candle.
    """
    for entry in catalog.entries():
        begins_ms = entry.archive_ms if entry.archive_ms is not None else entry.first_ms
        if begins_ms is not None:
            first = iso(entry.first_ms) if entry.first_ms is not None else ""
            yield [
                str(catalog.market),
                entry.symbol,
                iso(begins_ms)[:10],
                ",".join(entry.intervals),
                first,
            ]


def _shared(catalogs: Mapping[Market, Catalog], markets: list[Market]) -> Iterator[list[str]]:
    """Yield base and quote, and the symbols that have them on each of the markets; no contracts
    with an end.
    """
    by_market = [_by_assets(catalogs[market]) for market in markets]
    for assets in sorted(set.intersection(*(set(named) for named in by_market))):
        yield [*assets, *(named[assets] for named in by_market)]


def _by_assets(catalog: Catalog) -> dict[tuple[str, str], str]:
    named: dict[tuple[str, str], str] = {}
    dollars = _DOLLARS if catalog.market is Market.COIN_M else {}
    for entry in catalog.entries():
        if entry.base and entry.quote and _is_lasting(entry):
            named.setdefault((entry.base, dollars.get(entry.quote, entry.quote)), entry.symbol)
    return named


def _is_lasting(entry: CatalogEntry) -> bool:
    return "QUARTER" not in entry.contract_type and not entry.symbol.rpartition("_")[2].isdecimal()


def _write(
    path: Path, header: list[str] | tuple[str, ...], rows: list[list[str]]
) -> tuple[Path, int]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path, len(rows)

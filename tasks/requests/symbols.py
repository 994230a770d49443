"""Which symbols a user means: named, from a file, or all that the catalog knows of a market."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from klinefleet.workers.domain.errors import FleetError, RequestError, UnknownSymbol
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.symbols import checked_symbol, is_symbol
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode

#: Columns of a symbols file that hold the exchange's symbol.
SYMBOL_COLUMNS = ("symbol", "binance_symbol")
#: What a contract with a delivery date is called, and what such a one does not have.
#: Contracts that are delivered on a day: BTCUSDT_250627.
_DELIVERED = re.compile(r".*_\d{6}")


@dataclass(frozen=True, slots=True)
class SymbolSelection:
    """What the user said of symbols; no names means all."""

    names: tuple[str, ...] | None
    quote: str | None = None
    status: str = "all"
    skip_unknown: bool = False


@dataclass(frozen=True, slots=True)
class ChosenSymbols:
    """The symbols that are asked for, and what the user should know of the others."""

    symbols: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict)


def parse_selection(
    symbols: str | None,
    file: Path | None,
    top: int | None,
    every: bool,
    *,
    quote: str | None = None,
    status: str = "all",
    skip_unknown: bool = False,
) -> SymbolSelection:
    """Return what the options say, each symbol once and in its order."""
    if symbols is not None and file is not None:
        raise RequestError("give --symbols or --symbols-file, not both; nothing was queued")
    if top is not None and file is None:
        raise RequestError("--top takes the first symbols of a --symbols-file; nothing was queued")
    names = (
        symbols.split(",")
        if symbols is not None
        else _from_file(file)
        if file is not None
        else None
    )
    if (names is None) is not every:
        raise RequestError(
            "say which symbols: --symbols, --symbols-file or --all; nothing was queued"
        )
    if names is None:
        return SymbolSelection(None, quote.upper() if quote else None, status)
    if quote or status != "all":
        raise RequestError(
            "--quote and --status narrow --all, not a list of names; nothing was queued"
        )
    chosen = tuple(dict.fromkeys(checked_symbol(name) for name in names if name.strip()))
    if not chosen:
        raise RequestError("no symbol was named; nothing was queued")
    return SymbolSelection(chosen[:top], skip_unknown=skip_unknown)


def choose_symbols(
    services: Services,
    market: Market,
    kind: Kind,
    interval: Interval,
    selection: SymbolSelection,
    mode: Mode,
    say: Callable[[str], None],
) -> ChosenSymbols:
    """Return the symbols that are meant; RequestError for one that nobody knows."""
    if selection.names is None:
        return _all(services, market, kind, selection, mode, say)
    if kind.is_of_perpetuals and (
        ending := next(filter(_DELIVERED.fullmatch, selection.names), None)
    ):
        raise RequestError(f"{ending} is delivered on a day and has no {kind}; nothing was queued")
    known = [
        name
        for name in selection.names
        if _is_known(services, Series(market, kind, interval, name), mode)
    ]
    unknown = [name for name in selection.names if name not in set(known)]
    if unknown and not (known and selection.skip_unknown):
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        hint = _hint(services, market, kind, unknown[0])
        raise UnknownSymbol(
            f"market {market} has no symbol {unknown[0]}{more}{hint}; nothing was queued"
        )
    notes = {
        name: f"market {market} has no such symbol{_hint(services, market, kind, name)}; left out"
        for name in unknown
    }
    return ChosenSymbols(tuple(known), notes)


def _all(
    services: Services,
    market: Market,
    kind: Kind,
    selection: SymbolSelection,
    mode: Mode,
    say: Callable[[str], None],
) -> ChosenSymbols:
    # Imported where it is needed: Polars and Celery would make every command start later.
    from klinefleet.tasks.catalog_update.build import fresh_catalog

    catalog = fresh_catalog(services, market, say)
    entries = catalog.entries(selection.quote, selection.status)
    if mode is Mode.REST:
        entries = [entry for entry in entries if entry.in_rest]
    if kind.is_of_pair:
        names = list(dict.fromkeys(entry.pair for entry in entries if entry.pair))
    else:
        names = [entry.symbol for entry in entries]
    if kind.is_of_perpetuals:
        names = [name for name in names if not _DELIVERED.fullmatch(name)]
    odd = [name for name in names if not is_symbol(name)]
    if len(odd) == len(names):
        asked = " ".join(
            part
            for part in (
                f"--quote {selection.quote}" if selection.quote else "",
                f"--status {selection.status}",
            )
        )
        raise RequestError(f"market {market} has no symbol with {asked}; nothing was queued")
    return ChosenSymbols(
        tuple(name for name in names if name not in odd),
        dict.fromkeys(odd, "left out: a symbol has only letters, digits, '_' and '-'"),
    )


def _is_known(services: Services, series: Series, mode: Mode) -> bool:
    """Whether REST knows the symbol, or at least the archive has files of it; RequestError where it
    does not tell.
    """
    if services.symbol_cache.listing(series) is not None:
        return True
    if mode is Mode.REST:
        return False
    try:
        return services.archive_indexes.get(series).published_span() is not None
    except FleetError as error:
        raise RequestError(
            f"market {series.market} does not list {series.symbol}, and the archive does not tell "
            "whether it has files "
            f"of it: {error.reason}; nothing was queued"
        ) from error


def _hint(services: Services, market: Market, kind: Kind, name: str) -> str:
    names = (
        services.symbol_cache.pairs(market)
        if kind.is_of_pair
        else services.symbol_cache.symbols(market)
    )
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _from_file(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"symbols file {path} cannot be read: {error}; nothing was queued"
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise RequestError(f"symbols file {path} is empty; nothing was queued")
    header = next(csv.reader(lines[:1]))
    column = next((name for name in SYMBOL_COLUMNS if name in header), None)
    if column:
        return [row[column] or "" for row in csv.DictReader(lines)]
    if len(header) > 1:
        raise RequestError(
            f"symbols file {path} has no column {' or '.join(SYMBOL_COLUMNS)}; nothing was queued"
        )
    return lines

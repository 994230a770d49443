"""Select a request's symbols: named ones, those of a file, or all of a market's catalog."""

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

#: Columns of a symbols file that may hold the symbol, the first found is read.
SYMBOL_COLUMNS = ("symbol", "binance_symbol")
#: Contracts with a delivery date: BTCUSDT_250627.
_DELIVERY_CONTRACT = re.compile(r".*_\d{6}")


@dataclass(frozen=True, slots=True)
class SymbolSelection:
    """The symbols that the options select; `names` is None for all."""

    names: tuple[str, ...] | None
    quote: str | None = None
    status: str = "all"
    skip_unknown: bool = False


@dataclass(frozen=True, slots=True)
class ChosenSymbols:
    """The symbols to request, and for each symbol left out a note that says why."""

    symbols: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict)


def parse_selection(
    symbols: str | None,
    file: Path | None,
    top: int | None,
    all_symbols: bool,
    *,
    quote: str | None = None,
    status: str = "all",
    skip_unknown: bool = False,
) -> SymbolSelection:
    """Return the selection of the symbol options: each symbol once, in the order given."""
    if symbols is not None and file is not None:
        raise RequestError("use --symbols or --symbols-file, not both")
    if top is not None and file is None:
        raise RequestError("--top needs --symbols-file: it takes the file's first symbols")
    if all_symbols:
        if symbols is not None or file is not None:
            raise RequestError("--all cannot be combined with --symbols or --symbols-file")
        return SymbolSelection(None, quote.upper() if quote else None, status)
    if quote or status != "all":
        raise RequestError("--quote and --status need --all")
    if symbols is not None:
        names, origin = symbols.split(","), f"--symbols {symbols!r}"
    elif file is not None:
        names, origin = _read_file(file), f"symbols file {file}"
    else:
        raise RequestError("no symbols given; use --symbols, --symbols-file or --all")
    chosen = tuple(dict.fromkeys(checked_symbol(name) for name in names if name.strip()))
    if not chosen:
        raise RequestError(f"no symbol in {origin}")
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
    """Return the selected symbols that exist.

    UnknownSymbol where one does not, unless the selection skips unknown ones and some exist. `say`
    gets a line for each step of making a catalog.
    """
    if selection.names is None:
        return _choose_all(services, market, kind, selection, mode, say)
    if kind.is_of_perpetuals:
        for name in filter(_DELIVERY_CONTRACT.fullmatch, selection.names):
            raise RequestError(f"{name} has a delivery date; only perpetual contracts have {kind}")
    known = [
        name
        for name in selection.names
        if _is_known(services, Series(market, kind, interval, name), mode)
    ]
    unknown = [name for name in selection.names if name not in set(known)]
    if unknown and not (known and selection.skip_unknown):
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        hint = _hint(services, market, kind, unknown[0])
        raise UnknownSymbol(f"market {market} has no symbol {unknown[0]}{more}{hint}")
    notes = {
        name: f"market {market} has no such symbol{_hint(services, market, kind, name)}; left out"
        for name in unknown
    }
    return ChosenSymbols(tuple(known), notes)


def _choose_all(
    services: Services,
    market: Market,
    kind: Kind,
    selection: SymbolSelection,
    mode: Mode,
    say: Callable[[str], None],
) -> ChosenSymbols:
    # Imported here because Polars and Celery make every command start later.
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
        names = [name for name in names if not _DELIVERY_CONTRACT.fullmatch(name)]
    invalid = [name for name in names if not is_symbol(name)]
    if len(invalid) == len(names):
        quote = f"--quote {selection.quote} " if selection.quote else ""
        raise RequestError(f"market {market} has no symbol with {quote}--status {selection.status}")
    return ChosenSymbols(
        tuple(name for name in names if name not in invalid),
        dict.fromkeys(invalid, "left out: a symbol has only letters, digits, '_' and '-'"),
    )


def _is_known(services: Services, series: Series, mode: Mode) -> bool:
    """Return True if exchangeInfo has the symbol, the archive has files of it, or REST has rows.

    Only sources that `mode` allows are asked. exchangeInfo may be an hour old, so REST is asked
    for the symbol itself before it counts as unknown. RequestError where a source does not answer.
    """
    if services.symbol_cache.find(series).listing is not None:
        return True
    dates, faults = services.source_dates, dict[str, FleetError]()
    if mode is not Mode.REST:
        try:
            if dates.first_file(series) is not None:
                return True
        except FleetError as error:
            faults["the archive"] = error
    if mode is not Mode.ARCHIVE:
        try:
            if dates.newest_row(series).is_listed:
                return True
        except FleetError as error:
            faults["REST"] = error
    for source, fault in faults.items():
        raise RequestError(
            f"market {series.market} is not known to list {series.symbol}, and {source} could not "
            f"be asked for it: {fault.reason}"
        ) from fault
    return False


def _hint(services: Services, market: Market, kind: Kind, name: str) -> str:
    """Return " (did you mean …?)" with the names closest to an unknown one, or nothing."""
    names = (
        services.symbol_cache.pairs(market)
        if kind.is_of_pair
        else services.symbol_cache.symbols(market)
    )
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _read_file(path: Path) -> list[str]:
    """Return the symbols of a CSV file with a symbol column, or of a list with one a line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"symbols file {path} is no text in UTF-8") from error
    except OSError as error:
        raise RequestError(f"symbols file {path} cannot be read: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise RequestError(f"symbols file {path} is empty")
    header = next(csv.reader(lines[:1]))
    column = next((name for name in SYMBOL_COLUMNS if name in header), None)
    if column:
        return [row[column] or "" for row in csv.DictReader(lines)]
    if len(header) > 1:
        raise RequestError(f"symbols file {path} has no column {' or '.join(SYMBOL_COLUMNS)}")
    return lines

"""From a user's words to a Request: everything that can be wrong with them is said here, in one line."""

from __future__ import annotations

import csv
import difflib
from datetime import UTC, datetime
from pathlib import Path

from tasks.request import SETTLE_MS, Request
from workers.binance.markets import Pool, check_interval
from workers.errors import FleetError, RequestError, StoreFault
from workers.heart import living
from workers.model import CANDLE_INTERVALS, Interval, Kind, Market, checked_symbol, is_symbol, iso, utc_ms
from workers.private_redis import answers
from workers.queues import COMPACT, PLAN, rest_queue
from workers.toolbox import Toolbox

#: The exchange opened in July 2017; nothing older is asked for.
FIRST_MS = utc_ms(2017)
#: Columns of a symbols file that hold the exchange's symbol.
SYMBOL_COLUMNS = ("symbol", "binance_symbol")


def market_of(text: str) -> Market:
    """Return the market of this name."""
    try:
        return Market(text.lower())
    except ValueError:
        raise RequestError(f"no market {text!r}; there are {', '.join(Market)}; nothing was queued") from None


def interval_of(market: Market, text: str) -> Interval:
    """Return the interval of this name, where the market has it."""
    try:
        interval = Interval(text)
    except ValueError:
        raise RequestError(
            f"no interval {text!r}; there are {', '.join(CANDLE_INTERVALS)}; nothing was queued"
        ) from None
    check_interval(market, interval)
    return interval


def moment_of(name: str, text: str) -> int:
    """Return a date or a time in ms; what tells no zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(
            f"{name} {text!r} is no date like 2024-01-31 or 2024-01-31T12:00; nothing was queued"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def range_of(interval: Interval, start: str, end: str | None, *, now_ms: int) -> tuple[int, int]:
    """Return the open times [start, end) that are wanted and closed, ms UTC."""
    start_ms, end_ms = moment_of("start", start), moment_of("end", end) if end else now_ms
    if start_ms < 0:
        raise RequestError(f"start {start} lies before 1970; nothing was queued")
    if start_ms >= now_ms:
        raise RequestError(f"start {start} lies in the future (it is {iso(now_ms)} UTC); nothing was queued")
    if start_ms >= end_ms:
        raise RequestError(f"start {start} is not before end {end}; nothing was queued")
    closed_ms = interval.floor(now_ms - SETTLE_MS)
    first_ms, last_ms = interval.ceil(max(start_ms, FIRST_MS)), min(interval.ceil(min(end_ms, now_ms)), closed_ms)
    if first_ms >= last_ms:
        raise RequestError(
            f"no {interval} candle opens and closes between {start} and {end or 'now'}; nothing was queued"
        )
    return first_ms, last_ms


def named_symbols(symbols: str | None, file: Path | None, top: int | None) -> list[str] | None:
    """Return the symbols of a list or of a file, each once, in their order; None where neither was given."""
    if symbols is not None and file is not None:
        raise RequestError("give --symbols or --symbols-file, not both; nothing was queued")
    if top is not None and file is None:
        raise RequestError("--top takes the first symbols of a --symbols-file; nothing was queued")
    names = symbols.split(",") if symbols is not None else _from_file(file) if file is not None else None
    if names is None:
        return None
    chosen = list(dict.fromkeys(checked_symbol(name) for name in names if name.strip()))
    if not chosen:
        raise RequestError("no symbol was named; nothing was queued")
    return chosen[:top]


def known_symbols(tools: Toolbox, market: Market, named: list[str] | None) -> tuple[str, ...]:
    """Return the named symbols, all of the market's for None; RequestError for one that the market does not have."""
    if named is None:
        return tuple(name for name in tools.listings.symbols(market) if is_symbol(name))
    unknown = [symbol for symbol in named if tools.listings.get(market, symbol) is None]
    if unknown:
        close = difflib.get_close_matches(unknown[0], tools.listings.symbols(market), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else ";"
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise RequestError(f"market {market} has no symbol {unknown[0]}{more}{hint} Nothing was queued")
    return tuple(named)


def check_redis(tools: Toolbox) -> None:
    """Raise RequestError where no Redis answers."""
    if not answers(tools.settings.redis_url or ""):
        raise RequestError(f"no Redis answers at {shown(tools.settings.redis_url or '')}; nothing was queued")


def check_workers(tools: Toolbox, pool: Pool) -> None:
    """Raise RequestError where a queue that a run on this pool needs is served by no living worker."""
    served = {name.partition("@")[0] for name in living(tools.redis)}
    if missing := [queue for queue in (PLAN, rest_queue(pool), COMPACT) if queue not in served]:
        raise RequestError(
            f"no worker serves {', '.join(missing)}: start one with `klines worker`, or queue it for later with "
            "--detach; nothing was queued"
        )


def check_store(tools: Toolbox) -> None:
    """Raise RequestError where the store takes no object."""
    try:
        tools.files.check_writable()
    except (StoreFault, OSError) as error:
        where = tools.settings.store_url
        raise RequestError(f"store {where} cannot be written: {error}; nothing was queued") from error


def asked(tools: Toolbox, market: Market) -> None:
    """Have the market's symbols and limit known; RequestError where the exchange does not tell."""
    try:
        tools.listings.refresh(market)
    except FleetError as error:
        raise RequestError(f"the exchange does not tell its symbols: {error.reason}; nothing was queued") from error


def request_of(
    tools: Toolbox, market: Market, interval: Interval, named: list[str] | None, span: tuple[int, int]
) -> Request:
    """Return the request for klines; the market's symbols must be known by now."""
    return Request(market, Kind.KLINES, interval, known_symbols(tools, market, named), *span)


def shown(url: str) -> str:
    """Return a URL without the password in it."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else url


def _from_file(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"symbols file {path} cannot be read: {error}; nothing was queued") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise RequestError(f"symbols file {path} is empty; nothing was queued")
    header = next(csv.reader(lines[:1]))
    column = next((name for name in SYMBOL_COLUMNS if name in header), None)
    if column:
        return [row[column] or "" for row in csv.DictReader(lines)]
    if len(header) > 1:
        raise RequestError(f"symbols file {path} has no column {' or '.join(SYMBOL_COLUMNS)}; nothing was queued")
    return lines

"""From a user's words to a Request: everything that can be wrong with them is said here, in one line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.request import Request, closed_ms
from tasks.symbols import Wish, choose_symbols
from workers import words
from workers.binance.markets import pool_of
from workers.errors import FleetError, RequestError, StoreFault
from workers.heart import HOLDS_MS, living, remembered
from workers.model import Interval, Kind, Market, iso, utc_ms
from workers.private_redis import answers
from workers.queues import ARCHIVE, COMPACT, PLAN, rest_queue
from workers.sources import Mode
from workers.toolbox import Toolbox

#: The exchange opened in July 2017; nothing older is asked for.
FIRST_MS = utc_ms(2017)

#: A lane that starts again, as after Redis was away, serves within so long; how often it is looked for.
RETURNS_S, LOOK_S = HOLDS_MS / 1000 + 4.0, 0.5


def market_of(text: str) -> Market:
    """Return the market of this name."""
    with _refusing():
        return words.market_of(text)


def kind_of(market: Market, text: str) -> Kind:
    """Return the kind of this name, where the market has it."""
    with _refusing():
        return words.kind_of(market, text)


def interval_of(market: Market, kind: Kind, text: str | None) -> Interval:
    """Return the interval of this name, where the market has it; for events, which have none, what stands for it."""
    with _refusing():
        return words.interval_of(market, kind, text)


def mode_of(text: str) -> Mode:
    """Return the sources of this name."""
    try:
        return Mode(text.lower())
    except ValueError:
        raise RequestError(f"no source {text!r}; there are {', '.join(Mode)}; nothing was queued") from None


def moment_of(name: str, text: str) -> int:
    """Return a date or a time in ms; what tells no zone is UTC."""
    with _refusing():
        return words.moment_of(name, text)


def range_of(interval: Interval, start: str, end: str | None, *, now_ms: int) -> tuple[int, int]:
    """Return the open times [start, end) that are wanted and closed, ms UTC."""
    start_ms, end_ms = moment_of("start", start), now_ms if end is None else moment_of("end", end)
    if start_ms < 0:
        raise RequestError(f"start {start} lies before 1970; nothing was queued")
    if start_ms >= now_ms:
        raise RequestError(f"start {start} lies in the future (it is {iso(now_ms)} UTC); nothing was queued")
    if start_ms >= end_ms:
        raise RequestError(f"start {start} is not before end {end}; nothing was queued")
    first_ms = interval.ceil(max(start_ms, FIRST_MS))
    last_ms = min(interval.ceil(min(end_ms, now_ms)), closed_ms(interval, now_ms))
    if first_ms >= last_ms:
        until = "now" if end is None else end
        raise RequestError(f"no {interval} candle opens and closes between {start} and {until}; nothing was queued")
    return first_ms, last_ms


def check_redis(tools: Toolbox) -> None:
    """Raise RequestError where no Redis answers."""
    if not answers(tools.settings.redis_url or ""):
        raise RequestError(f"no Redis answers at {shown(tools.settings.redis_url or '')}; nothing was queued")


def queues_of(market: Market, kind: Kind, mode: Mode) -> list[str]:
    """Return the queues that a run needs."""
    rest = [] if mode is Mode.ARCHIVE else [rest_queue(pool_of(market, kind))]
    return [PLAN, *rest, *([] if mode is Mode.REST else [ARCHIVE]), COMPACT]


def check_workers(
    tools: Toolbox,
    queues: list[str],
    otherwise: str = "queue it for later with --detach",
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Raise RequestError where a queue that is needed is served by no living worker; says what to do `otherwise`.

    Where workers lived until just now, a queue that is not served is waited for: a lane may be starting again.
    """
    for look in range(int(RETURNS_S / LOOK_S)):
        missing = _unserved(tools, queues)
        if not missing:
            return
        if not remembered(tools.redis):
            break
        if not look:
            _say(f"no worker serves {', '.join(missing)} now; waiting up to {RETURNS_S:.0f} s for one to start again")
        pause(LOOK_S)
    if missing := _unserved(tools, queues):
        raise RequestError(
            f"no worker serves {', '.join(missing)}: start one with `klines worker`, or {otherwise}; nothing was queued"
        )


def _unserved(tools: Toolbox, queues: list[str]) -> list[str]:
    served = {name.partition("@")[0] for name in living(tools.redis)}
    return [queue for queue in queues if queue not in served]


def check_store(tools: Toolbox) -> None:
    """Raise RequestError where the store takes no object."""
    try:
        tools.files.check_writable()
    except (StoreFault, OSError) as error:
        where = tools.settings.store_url
        raise RequestError(f"store {where} cannot be written: {error}; nothing was queued") from error


def asked(tools: Toolbox, market: Market) -> None:
    """Have the market's symbols and limit known; RequestError where the exchange does not tell and never has."""
    try:
        tools.listings.refresh(market)
    except FleetError as error:
        age_ms = tools.listings.age_ms(market)
        if age_ms is None:
            raise RequestError(f"the exchange does not tell its symbols: {error.reason}; nothing was queued") from error
        age_h = age_ms / 3_600_000
        _say(f"the exchange does not tell its symbols ({error.reason}); those of {age_h:.1f} hours ago are used")


def request_of(
    tools: Toolbox,
    market: Market,
    kind: Kind,
    interval: Interval,
    wish: Wish,
    span: tuple[int, int],
    mode: Mode,
    revise: bool,
) -> tuple[Request, dict[str, str]]:
    """Return the request, and what the user should know of symbols that are not in it."""
    chosen = choose_symbols(tools, market, kind, interval, wish, mode, _say)
    return Request(market, kind, interval, chosen.symbols, *span, mode, revise), chosen.notes


def shown(url: str) -> str:
    """Return a URL without the password in it."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else url


@contextmanager
def _refusing() -> Iterator[None]:
    """Say of a word that makes no sense that nothing came of it."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{error}; nothing was queued") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

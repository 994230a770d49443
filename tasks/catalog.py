"""klines.catalog: what exchangeInfo, the archive's key list and the first candles tell of every symbol of a market."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from celery.exceptions import Reject
from redis import RedisError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tasks.messages import send
from workers.app import app
from workers.binance.archive_files import ArchiveFile, folder, symbols_folder
from workers.binance.listings import ALIVE, Listing
from workers.errors import Failed, FleetError, Transient
from workers.heart import now_ms
from workers.lake.catalog import FRESH_MS, Catalog, Entry
from workers.model import Interval, Kind, Market, Series, Source, is_symbol
from workers.queues import PLAN
from workers.threads import Threads
from workers.toolbox import Toolbox

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Symbols that are asked about at once.
ASKED_AT_ONCE = 32
#: Tries of one question, and the longest pause between two, seconds.
TRIES, LONGEST_PAUSE_S = 4, 5.0
#: Quote assets by which a name is read that exchangeInfo has forgotten, besides those it still tells.
_OLD_QUOTES = ("USDT", "BUSD", "TUSD", "USDC", "USDS", "PAX", "BKRW", "IDRT", "BTC", "ETH", "BNB", "USD", "TRY", "EUR")
#: What the archive appends to a symbol whose name was used again.
_SETTLED = "SETTLED"


@app.task(name="klines.catalog", bind=True, throws=(Failed,))  # type: ignore[untyped-decorator]
def catalog(self: Any, market: str) -> None:
    """Make a market's catalog anew; does nothing while another worker is at it."""
    tools: Toolbox = self.app.toolbox
    try:
        with tools.heart.lease(f"catalog|{market}") as is_mine:
            if is_mine:
                update_catalog(tools, Market(market))
    except RedisError as error:
        tools.stop.wait(1.0)
        raise Reject(error, requeue=True) from error
    except FleetError as error:
        logger.error("catalog %s: %s; the one in the lake stays", market, error.reason)
        raise Failed(error.reason) from error


def send_catalog(market: Market, sent_us: int) -> None:
    """Have a market's catalog made anew by the fleet; it counts as sent at `sent_us`, Redis µs."""
    send("klines.catalog", [str(market)], PLAN, f"catalog of {market}", sent_us)


def fresh_catalog(tools: Toolbox, market: Market, say: Callable[[str], None] = logger.info) -> Catalog:
    """Return a catalog that is at most a day old: the one in the lake, or else a new one."""
    held = tools.catalogs.newest(market)
    if held is not None and held.has_archive and now_ms(tools.redis) - held.made_ms < FRESH_MS:
        return held
    return update_catalog(tools, market, say)


def update_catalog(tools: Toolbox, market: Market, say: Callable[[str], None] = logger.info) -> Catalog:
    """Make a market's catalog, keep it in the lake and return it; the old one stays until then.

    Where the archive does not answer, what the old one knew of it stands beside what exchangeInfo tells.

    Costs two listings of the market, three of each symbol of the archive (its intervals, monthly and daily, and its
    first file), two more where it no longer trades (its last files), and for each new spot symbol one call for its
    first candle.
    """
    began_ms, held = now_ms(tools.redis), tools.catalogs.newest(market)
    # Tells the budget its limit, too: before that only a trickle goes out.
    _try(lambda: tools.listings.refresh(market))
    listed = {listing.symbol: listing for listing in _try(lambda: tools.client(market).exchange_info()).listings}
    try:
        archived, has_archive = _archived(tools, market, listed, say), True
    except FleetError as error:
        say(f"catalog {market}: {error.reason}; made of exchangeInfo and of what the last catalog knew")
        archived, has_archive = _remembered(held), False
    first = _first_candles(tools, market, listed, held, say)
    quotes = sorted({listing.quote for listing in listed.values() if listing.quote} | set(_OLD_QUOTES), key=len)
    entries = [
        _entry(market, symbol, listed.get(symbol), archived.get(symbol), first.get(symbol), quotes)
        for symbol in sorted(listed.keys() | archived.keys())
    ]
    made = Catalog(market, began_ms, entries, has_archive)
    say(f"catalog {market}: {len(made):,} symbols in {tools.catalogs.store(made)}")
    return made


@dataclass(frozen=True, slots=True)
class _Files:
    """What the archive has of a symbol."""

    intervals: tuple[str, ...]
    first_ms: int | None
    last_ms: int | None


def _archived(
    tools: Toolbox, market: Market, listed: dict[str, Listing], say: Callable[[str], None]
) -> dict[str, _Files]:
    folders = [symbols_folder(market, Kind.KLINES, source) for source in (Source.MONTHLY, Source.DAILY)]
    names = sorted({name for path in folders for name in _children(tools, path)})
    trades = {name for name, listing in listed.items() if listing.status in ALIVE}
    asked = [name for name in names if is_symbol(name)]
    say(f"catalog {market}: {len(listed):,} symbols listed, {len(names):,} in the archive")
    found = _side_by_side(asked, lambda name: _files(tools, market, name, name in trades), say, f"catalog {market}")
    return dict(zip(asked, found, strict=True))


def _files(tools: Toolbox, market: Market, symbol: str, trades: bool) -> _Files:
    by_source = {source: _intervals(tools, market, symbol, source) for source in (Source.DAILY, Source.MONTHLY)}
    finest: dict[Source, Series] = {}
    for source, intervals in by_source.items():
        # 1s began years after 1m, so it tells nothing of the symbol's first day.
        if interval := min(intervals - {Interval.S1}, key=lambda interval: interval.step_ms, default=None):
            finest[source] = Series(market, Kind.KLINES, interval, symbol)
    begun = (_first_file(tools, series, source) for source, series in finest.items())
    first_ms = next((ms for ms in begun if ms is not None), None)
    last_ms = None if trades else _end_of_files(tools, finest)
    return _Files(tuple(sorted(by_source[Source.DAILY] | by_source[Source.MONTHLY])), first_ms, last_ms)


def _intervals(tools: Toolbox, market: Market, symbol: str, source: Source) -> set[Interval]:
    names = _children(tools, f"{symbols_folder(market, Kind.KLINES, source)}{symbol}/")
    spelled = {"1M" if name == "1mo" else name for name in names}
    return {interval for interval in Interval if interval in spelled}


def _children(tools: Toolbox, prefix: str) -> list[str]:
    return _try(lambda: tools.archive.children(prefix))


def _first_file(tools: Toolbox, series: Series, source: Source) -> int | None:
    keys = _try(lambda: list(tools.archive.keys(folder(series, source), most=4)))
    files = [file for key in keys if (file := ArchiveFile.parse(key.key))]
    return files[0].span.start_ms if files else None


def _end_of_files(tools: Toolbox, finest: dict[Source, Series]) -> int | None:
    """Return the end of the last file: of the days from the last month on, else of that month."""
    monthly, daily, marker = finest.get(Source.MONTHLY), finest.get(Source.DAILY), ""
    month = _last_file(tools, folder(monthly, Source.MONTHLY), "") if monthly else None
    if daily and month:
        marker = f"{folder(daily, Source.DAILY)}{ArchiveFile(daily, Source.DAILY, month.period).stem}-"
    last = (_last_file(tools, folder(daily, Source.DAILY), marker) if daily else None) or month
    return last.span.end_ms if last else None


def _last_file(tools: Toolbox, prefix: str, marker: str) -> ArchiveFile | None:
    keys = _try(lambda: list(tools.archive.keys(prefix, marker=marker)))
    return next((file for key in reversed(keys) if (file := ArchiveFile.parse(key.key))), None)


def _remembered(held: Catalog | None) -> dict[str, _Files]:
    """Return what an older catalog knew of the archive."""
    entries = held.entries() if held is not None else []
    return {e.symbol: _Files(e.intervals, e.archive_ms, e.last_ms) for e in entries if e.in_archive}


def _first_candles(
    tools: Toolbox, market: Market, listed: dict[str, Listing], held: Catalog | None, say: Callable[[str], None]
) -> dict[str, int | None]:
    """Return the open time of the first candle of each listed symbol; it never changes, so it is asked for once."""
    if market is not Market.SPOT:
        return {name: listing.onboard_ms for name, listing in listed.items()}
    known = {
        name: entry.first_ms for name in listed if held is not None and (entry := held.get(name)) and entry.in_rest
    }
    asked = [name for name in listed if known.get(name) is None and is_symbol(name)]
    ask = lambda name: tools.client(market).first_open_ms(Series(market, Kind.KLINES, Interval.M1, name))  # noqa: E731
    return known | dict(zip(asked, _side_by_side(asked, ask, say, "first candles of spot"), strict=True))


def _entry(
    market: Market, symbol: str, listing: Listing | None, files: _Files | None, first_ms: int | None, quotes: list[str]
) -> Entry:
    base, quote = (listing.base, listing.quote) if listing else _guessed(symbol, quotes)
    has_ended = listing is None or listing.status not in ALIVE
    delivery_ms = listing.delivery_ms if listing else None
    archive_ms = files.first_ms if files else None
    return Entry(
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
    quote = next((quote for quote in reversed(quotes) if name.endswith(quote) and name != quote), "")
    return name.removesuffix(quote), quote


def _side_by_side(names: list[str], ask: Callable[[str], T], say: Callable[[str], None], what: str) -> list[T]:
    """Ask about many symbols at once; raises the first error that several tries did not mend."""
    answers: list[T] = []
    with Threads(ASKED_AT_ONCE, thread_name_prefix="catalog") as asking:
        futures = [asking.submit(_try, lambda name=name: ask(name)) for name in names]
        try:
            for count, future in enumerate(futures, 1):
                answers.append(future.result())
                if count % 200 == 0:
                    say(f"{what}: {count:,} of {len(names):,} symbols")
        except BaseException:
            asking.shutdown(cancel_futures=True, wait=False)
            raise
    return answers


def _try(ask: Callable[[], T]) -> T:
    tries = Retrying(
        retry=retry_if_exception_type(Transient),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=0.25, max=LONGEST_PAUSE_S),
        reraise=True,
    )
    return tries(ask)

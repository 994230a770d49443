"""Finds what the archive has of each symbol: its intervals, the first and the last file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from klinefleet.workers.binance.archive_listing import (
    FIRST_KEYS,
    days_from,
    earlier_file,
    first_file,
    last_file,
)
from klinefleet.workers.binance.archive_names import folder, symbols_folder
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.domain.errors import Transient
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.symbols import is_symbol
from klinefleet.workers.domain.timestamps import DAY_MS, month_start
from klinefleet.workers.lake.catalog import Catalog
from klinefleet.workers.services import Services
from klinefleet.workers.support.retry import CATALOG
from klinefleet.workers.support.threads import Threads

T = TypeVar("T")

#: Symbols that are looked up at the same time.
CONCURRENT_SYMBOLS = 32


@dataclass(frozen=True, slots=True)
class ArchivedFiles:
    """What the archive has of a symbol's klines; times in ms UTC."""

    intervals: tuple[str, ...]
    first: Span | None
    """The time of the first file, a day's or a month's; None if there is none."""
    last_ms: int | None
    """The end of the last file; None if there is none, or the symbol still trades."""

    @property
    def first_ms(self) -> int | None:
        """The start of the first file, ms UTC."""
        return self.first.start_ms if self.first else None


def scan_archive(
    services: Services,
    market: Market,
    listed: dict[str, Listing],
    trading: Collection[str],
    on_progress: Callable[[str], None],
) -> dict[str, ArchivedFiles]:
    """Return what the archive has of each of its symbols.

    `listed` are those of exchangeInfo; of those that are `trading`, the last file is not looked up.
    """
    folders = [symbols_folder(market, KLINES, source) for source in (Source.MONTHLY, Source.DAILY)]
    names = sorted({name for path in folders for name in _list_folders(services, path)})
    symbols = [name for name in names if is_symbol(name)]
    on_progress(f"catalog {market}: {len(listed):,} symbols listed, {len(names):,} in the archive")
    files = map_symbols(
        lambda symbol: _scan_symbol(services, market, symbol, is_trading=symbol in trading),
        symbols,
        f"catalog {market}",
        on_progress,
    )
    return dict(zip(symbols, files, strict=True))


def files_in_catalog(catalog: Catalog | None) -> dict[str, ArchivedFiles]:
    """Return what a catalog says of the archive, by symbol."""
    found = {}
    for entry in catalog.entries() if catalog is not None else []:
        if entry.in_archive:
            first = _file_at(entry.archive_ms)
            found[entry.symbol] = ArchivedFiles(entry.intervals, first, entry.last_ms)
    return found


def _file_at(start_ms: int | None) -> Span | None:
    """Return the time of the first file that starts at `start_ms`: a month if it can be one."""
    if start_ms is None:
        return None
    is_month = start_ms == month_start(start_ms)
    return Span(start_ms, Interval.MO1.advance(start_ms, 1) if is_month else start_ms + DAY_MS)


def map_symbols(
    fetch: Callable[[str], T],
    symbols: list[str],
    subject: str,
    on_progress: Callable[[str], None],
) -> list[T]:
    """Return what `fetch` returns of each symbol, fetched concurrently and with retries.

    `on_progress` gets a line about `subject` now and then. The first error that outlasts its
    retries is raised.
    """
    results: list[T] = []
    with Threads(CONCURRENT_SYMBOLS, thread_name_prefix="catalog") as threads:
        futures = [
            threads.submit(with_retries, lambda symbol=symbol: fetch(symbol)) for symbol in symbols
        ]
        try:
            for count, future in enumerate(futures, 1):
                results.append(future.result())
                if count % 200 == 0:
                    on_progress(f"{subject}: {count:,} of {len(symbols):,} symbols")
        except BaseException:
            threads.shutdown(cancel_futures=True, wait=False)
            raise
    return results


def with_retries(fetch: Callable[[], T]) -> T:
    """Return what `fetch` returns; transient errors are retried by the catalog's policy."""
    return CATALOG.retrying(lambda error: isinstance(error, Transient))(fetch)


def _scan_symbol(
    services: Services, market: Market, symbol: str, *, is_trading: bool
) -> ArchivedFiles:
    intervals = {
        source: _list_intervals(services, market, symbol, source)
        for source in (Source.DAILY, Source.MONTHLY)
    }
    finest: dict[Source, Series] = {}
    for source, of_source in intervals.items():
        # Files of 1s begin years after those of 1m: they do not show the symbol's first day.
        candidates = of_source - {Interval.S1}
        if candidates:
            interval = min(candidates, key=lambda interval: interval.step_ms)
            finest[source] = Series(market, KLINES, interval, symbol)
    day, month = (
        _first_file(services, finest[source], source) if source in finest else None
        for source in (Source.DAILY, Source.MONTHLY)
    )
    last_ms = None if is_trading else _end_of_files_ms(services, finest)
    both = intervals[Source.DAILY] | intervals[Source.MONTHLY]
    return ArchivedFiles(tuple(sorted(both)), earlier_file(day, month), last_ms)


def _list_intervals(
    services: Services, market: Market, symbol: str, source: Source
) -> set[Interval]:
    names = _list_folders(services, f"{symbols_folder(market, KLINES, source)}{symbol}/")
    # The archive spells the month's interval 1mo.
    spelled = {"1M" if name == "1mo" else name for name in names}
    return {interval for interval in Interval if interval in spelled}


def _list_folders(services: Services, prefix: str) -> list[str]:
    return with_retries(lambda: services.archive.children(prefix))


def _first_file(services: Services, series: Series, source: Source) -> Span | None:
    keys = services.archive.keys
    file = with_retries(lambda: first_file(keys(folder(series, source), limit=FIRST_KEYS)))
    return file.span if file else None


def _end_of_files_ms(services: Services, finest: dict[Source, Series]) -> int | None:
    """Return the end of the last daily file since the last monthly one, else of that month."""
    keys = services.archive.keys
    month, day = None, None
    if monthly := finest.get(Source.MONTHLY):
        prefix = folder(monthly, Source.MONTHLY)
        month = last_file(with_retries(lambda: list(keys(prefix))))
    if daily := finest.get(Source.DAILY):
        prefix, marker = days_from(daily, month.period if month else None)
        day = last_file(with_retries(lambda: list(keys(prefix, marker=marker))))
    last = day or month
    return last.span.end_ms if last else None

"""Finds what the archive has of each symbol: its intervals, the first and the last file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from klinefleet.workers.binance.archive_names import ArchiveFile, folder, symbols_folder
from klinefleet.workers.binance.exchange_info import ALIVE, Listing
from klinefleet.workers.domain.errors import Transient
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.symbols import is_symbol
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
    first_ms: int | None
    """The start of the first file; None if there is none."""
    last_ms: int | None
    """The end of the last file; None if there is none, or the symbol still trades."""


def scan_archive(
    services: Services,
    market: Market,
    listed: dict[str, Listing],
    on_progress: Callable[[str], None],
) -> dict[str, ArchivedFiles]:
    """Return what the archive has of each of its symbols; `listed` are those of exchangeInfo."""
    folders = [symbols_folder(market, KLINES, source) for source in (Source.MONTHLY, Source.DAILY)]
    names = sorted({name for path in folders for name in _list_folders(services, path)})
    symbols = [name for name in names if is_symbol(name)]
    trading = {name for name, listing in listed.items() if listing.status in ALIVE}
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
    entries = catalog.entries() if catalog is not None else []
    return {
        entry.symbol: ArchivedFiles(entry.intervals, entry.archive_ms, entry.last_ms)
        for entry in entries
        if entry.in_archive
    }


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
    starts = (_first_file_ms(services, series, source) for source, series in finest.items())
    first_ms = next((ms for ms in starts if ms is not None), None)
    last_ms = None if is_trading else _end_of_files_ms(services, finest)
    both = intervals[Source.DAILY] | intervals[Source.MONTHLY]
    return ArchivedFiles(tuple(sorted(both)), first_ms, last_ms)


def _list_intervals(
    services: Services, market: Market, symbol: str, source: Source
) -> set[Interval]:
    names = _list_folders(services, f"{symbols_folder(market, KLINES, source)}{symbol}/")
    # The archive spells the month's interval 1mo.
    spelled = {"1M" if name == "1mo" else name for name in names}
    return {interval for interval in Interval if interval in spelled}


def _list_folders(services: Services, prefix: str) -> list[str]:
    return with_retries(lambda: services.archive.children(prefix))


def _first_file_ms(services: Services, series: Series, source: Source) -> int | None:
    # More than one key, since CHECKSUM files are listed too, and keys of no file that we know.
    keys = with_retries(lambda: list(services.archive.keys(folder(series, source), limit=4)))
    files = [file for key in keys if (file := ArchiveFile.parse(key.key))]
    return files[0].span.start_ms if files else None


def _end_of_files_ms(services: Services, finest: dict[Source, Series]) -> int | None:
    """Return the end of the last daily file since the last monthly one, else of that month."""
    monthly, daily = finest.get(Source.MONTHLY), finest.get(Source.DAILY)
    last_month = _last_file(services, folder(monthly, Source.MONTHLY)) if monthly else None
    last_day = None
    if daily:
        days = folder(daily, Source.DAILY)
        # Days before the last month are skipped: keys are sorted, and listed after the marker.
        marker = ""
        if last_month:
            marker = f"{days}{ArchiveFile(daily, Source.DAILY, last_month.period).stem}-"
        last_day = _last_file(services, days, marker)
    last = last_day or last_month
    return last.span.end_ms if last else None


def _last_file(services: Services, prefix: str, marker: str = "") -> ArchiveFile | None:
    keys = with_retries(lambda: list(services.archive.keys(prefix, marker=marker)))
    return next((file for key in reversed(keys) if (file := ArchiveFile.parse(key.key))), None)

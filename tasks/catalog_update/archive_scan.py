"""What the archive's listing says of each symbol: its intervals, first and last file."""

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

#: Symbols that are asked about at once.
ASKED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class ArchivedFiles:
    """What the archive has of a symbol."""

    intervals: tuple[str, ...]
    first_ms: int | None
    last_ms: int | None


def scan_archive(
    services: Services, market: Market, listed: dict[str, Listing], say: Callable[[str], None]
) -> dict[str, ArchivedFiles]:
    folders = [symbols_folder(market, KLINES, source) for source in (Source.MONTHLY, Source.DAILY)]
    names = sorted({name for path in folders for name in _children(services, path)})
    trades = {name for name, listing in listed.items() if listing.status in ALIVE}
    asked = [name for name in names if is_symbol(name)]
    say(f"catalog {market}: {len(listed):,} symbols listed, {len(names):,} in the archive")
    found = side_by_side(
        asked, lambda name: _files(services, market, name, name in trades), say, f"catalog {market}"
    )
    return dict(zip(asked, found, strict=True))


def _files(services: Services, market: Market, symbol: str, trades: bool) -> ArchivedFiles:
    by_source = {
        source: _intervals(services, market, symbol, source)
        for source in (Source.DAILY, Source.MONTHLY)
    }
    finest: dict[Source, Series] = {}
    for source, intervals in by_source.items():
        # 1s began years after 1m, so it tells nothing of the symbol's first day.
        if interval := min(
            intervals - {Interval.S1}, key=lambda interval: interval.step_ms, default=None
        ):
            finest[source] = Series(market, KLINES, interval, symbol)
    begun = (_first_file(services, series, source) for source, series in finest.items())
    first_ms = next((ms for ms in begun if ms is not None), None)
    last_ms = None if trades else _end_of_files(services, finest)
    return ArchivedFiles(
        tuple(sorted(by_source[Source.DAILY] | by_source[Source.MONTHLY])), first_ms, last_ms
    )


def _intervals(services: Services, market: Market, symbol: str, source: Source) -> set[Interval]:
    names = _children(services, f"{symbols_folder(market, KLINES, source)}{symbol}/")
    spelled = {"1M" if name == "1mo" else name for name in names}
    return {interval for interval in Interval if interval in spelled}


def _children(services: Services, prefix: str) -> list[str]:
    return retried(lambda: services.archive.children(prefix))


def _first_file(services: Services, series: Series, source: Source) -> int | None:
    keys = retried(lambda: list(services.archive.keys(folder(series, source), limit=4)))
    files = [file for key in keys if (file := ArchiveFile.parse(key.key))]
    return files[0].span.start_ms if files else None


def _end_of_files(services: Services, finest: dict[Source, Series]) -> int | None:
    """Return the end of the last file: of the days from the last month on, else of that month."""
    monthly, daily, marker = finest.get(Source.MONTHLY), finest.get(Source.DAILY), ""
    month = _last_file(services, folder(monthly, Source.MONTHLY), "") if monthly else None
    if daily and month:
        marker = (
            f"{folder(daily, Source.DAILY)}{ArchiveFile(daily, Source.DAILY, month.period).stem}-"
        )
    last = (_last_file(services, folder(daily, Source.DAILY), marker) if daily else None) or month
    return last.span.end_ms if last else None


def _last_file(services: Services, prefix: str, marker: str) -> ArchiveFile | None:
    keys = retried(lambda: list(services.archive.keys(prefix, marker=marker)))
    return next((file for key in reversed(keys) if (file := ArchiveFile.parse(key.key))), None)


def remembered_files(held: Catalog | None) -> dict[str, ArchivedFiles]:
    """Return what an older catalog knew of the archive."""
    entries = held.entries() if held is not None else []
    return {
        e.symbol: ArchivedFiles(e.intervals, e.archive_ms, e.last_ms)
        for e in entries
        if e.in_archive
    }


def side_by_side(
    names: list[str], ask: Callable[[str], T], say: Callable[[str], None], what: str
) -> list[T]:
    """Ask about many symbols at once; raises the first error that several tries did not mend."""
    answers: list[T] = []
    with Threads(ASKED_AT_ONCE, thread_name_prefix="catalog") as asking:
        futures = [asking.submit(retried, lambda name=name: ask(name)) for name in names]
        try:
            for count, future in enumerate(futures, 1):
                answers.append(future.result())
                if count % 200 == 0:
                    say(f"{what}: {count:,} of {len(names):,} symbols")
        except BaseException:
            asking.shutdown(cancel_futures=True, wait=False)
            raise
    return answers


def retried(ask: Callable[[], T]) -> T:
    """Return the answer, asked for again by the catalog's policy while the error may pass."""
    return CATALOG.retrying(lambda error: isinstance(error, Transient))(ask)

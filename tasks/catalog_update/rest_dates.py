"""Asks REST for each symbol's first candle, and for the newest of those that may have ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from klinefleet.tasks.catalog_update.archive_scan import ArchivedFiles, map_symbols
from klinefleet.workers.binance.exchange_info import Listing
from klinefleet.workers.domain.errors import Refused
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.symbols import is_symbol
from klinefleet.workers.lake.catalog import Catalog
from klinefleet.workers.services import Services
from klinefleet.workers.sources.source_dates import NO_FILES_MS, NewestRow

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestDates:
    """What REST says of a market's symbols; times in ms UTC."""

    first_ms: dict[str, int | None] = field(default_factory=dict)
    """The open time of each listed symbol's first candle."""
    newest: dict[str, NewestRow] = field(default_factory=dict)
    """Of the symbols that may have ended."""


def ask_rest_dates(
    services: Services,
    market: Market,
    listed: dict[str, Listing],
    archived: dict[str, ArchivedFiles],
    held: Catalog | None,
    now_ms: int,
    on_progress: Callable[[str], None],
) -> RestDates:
    """Return the dates that REST has of a market's symbols.

    A date of an earlier catalog is not requested again: a first candle never changes, nor does an
    end that is older than a week, unless the status does. Of a symbol that exchangeInfo lacks, the
    newest candle is requested if the archive has had files of it in the last week.
    """
    dates = services.source_dates

    def m1(symbol: str) -> Series:
        return Series(market, KLINES, Interval.M1, symbol)

    first_ms = dict.fromkeys(listed, None) | _known_first_rows(listed, held)
    unknown = [name for name, ms in first_ms.items() if ms is None and is_symbol(name)]
    asked = map_symbols(
        lambda name: _unless_refused(
            lambda: dates.first_row_ms(m1(name), listed[name].onboard_ms), None
        ),
        unknown,
        f"first candles of {market}",
        on_progress,
    )
    first_ms |= dict(zip(unknown, asked, strict=True))
    known = _known_ends(listed, held, now_ms)
    ending = [name for name, one in listed.items() if one.may_have_ended(now_ms)]
    ending += [
        name
        for name, files in archived.items()
        if name not in listed and files.last_ms and now_ms - files.last_ms < NO_FILES_MS
    ]
    unknown = [name for name in ending if name not in known and is_symbol(name)]
    newest = map_symbols(
        lambda name: _unless_refused(
            lambda: dates.newest_row(m1(name)), NewestRow(is_listed=True, end_ms=None)
        ),
        unknown,
        f"newest candles of {market}",
        on_progress,
    )
    return RestDates(first_ms, known | dict(zip(unknown, newest, strict=True)))


def _unless_refused(ask: Callable[[], T], otherwise: T) -> T:
    """Return an answer; `otherwise` where the exchange refuses this one symbol's candles."""
    try:
        return ask()
    except Refused as error:
        logger.warning("a date of the catalog stays unknown: %s", error)
        return otherwise


def _known_first_rows(listed: dict[str, Listing], held: Catalog | None) -> dict[str, int | None]:
    """Return the first candles that REST had for an earlier catalog.

    Not of symbols that exchangeInfo lacked then: these have the start of their first file.
    """
    if held is None or not held.has_rest:
        return {}
    entries = {name: held.get(name) for name in listed}
    return {
        name: entry.first_ms
        for name, entry in entries.items()
        if entry and entry.in_rest and not entry.is_guessed
    }


def _known_ends(
    listed: dict[str, Listing], held: Catalog | None, now_ms: int
) -> dict[str, NewestRow]:
    """Return the ends that an earlier catalog has, and that are so old that they stay."""
    if held is None or not held.has_rest:
        return {}
    entries = {name: held.get(name) for name in listed}
    return {
        name: NewestRow(is_listed=True, end_ms=entry.last_ms)
        for name, entry in entries.items()
        if entry
        and entry.last_ms
        and entry.status == listed[name].status
        and now_ms - entry.last_ms > NO_FILES_MS
    }

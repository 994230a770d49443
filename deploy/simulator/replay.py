"""Recorded candle files served in place of the function, under the same rules."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.simulator import refusals
from deploy.simulator.archive.recorded import RecordedShelf, csv_of
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import utc_ms
from deploy.simulator.source import EMPTY_PAGE, Page
from deploy.simulator.symbols import Instrument
from deploy.simulator.windows import Window

FILE_NAME = re.compile(
    r"(?P<symbol>.+)-(?P<interval>1s|\d+m|\d+h|\dd|1w|1mo|1M)-(?P<month>\d{4}-\d{2})(-(?P<day>\d{2}))?\.(csv\.gz|zip)"
)
#: The archive calls a month so, for file systems that cannot tell m from M.
ARCHIVE_MONTH = "1mo"
#: Times above this are microseconds: the archive changed over in 2025.
LARGEST_MILLISECONDS = 10_000_000_000_000
QUOTES = ("USDT", "USDC", "USD", "BTC", "ETH", "BNB")

Key = tuple[Market, str, str]


@dataclass(frozen=True, slots=True)
class Recording:
    """One series from files: open times in order, and a written row for each."""

    opens: list[int]
    rows: list[str]

    def page(self, window: Window) -> Page:
        """Return the rows of a window."""
        first, last = (
            bisect_left(self.opens, window.low_ms),
            bisect_right(self.opens, window.high_ms),
        )
        if window.newest:
            first = max(first, last - window.limit)
        else:
            last = min(last, first + window.limit)
        rows = self.rows[first:last]
        return Page(f"[{','.join(rows)}]".encode(), len(rows))


class Replay:
    """Serves the candle files found below a folder; a series is read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._files: defaultdict[Key, list[Path]] = defaultdict(list)
        self._recordings: dict[Key, Recording] = {}
        self.shelf = RecordedShelf()
        for path in sorted(folder.rglob("*-*-*"), key=lambda path: path.name):
            key = file_key(path.relative_to(folder), folder)
            if key is not None:
                self._files[key].append(path)
                self.shelf.add(*key, _period(path), path)
        if not self._files:
            raise FileNotFoundError(
                f"no candle file like spot/BTCUSDT-1m-2024-02.csv.gz lies below {folder}"
            )
        self._instruments = {market: list(_instruments(market, self._files)) for market in Market}

    def instruments(self, market: Market) -> Sequence[Instrument]:
        """Return one instrument for every symbol found."""
        return self._instruments[market]

    def page(
        self,
        market: Market,
        symbol: str,
        interval: str,
        window: Window,
        *,
        now_ms: int,
        kind: Kind = Kind.KLINES,
    ) -> Page:
        """Return the recorded candles of a window; nothing is recorded of other kinds."""
        if not any(instrument.name == symbol for instrument in self._instruments[market]):
            raise refusals.invalid_symbol()
        key = (market, symbol, interval)
        if kind is not Kind.KLINES or key not in self._files or window.low_ms > window.high_ms:
            return EMPTY_PAGE
        if key not in self._recordings:
            self._recordings[key] = read(self._files[key])
        return self._recordings[key].page(window)


def file_key(path: Path, folder: Path) -> Key | None:
    """Return the series of a file, by its name and folders; None for other files."""
    name = FILE_NAME.fullmatch(path.name)
    folders = (*folder.resolve().parts, *path.parts[:-1])
    market = next((Market(part) for part in reversed(folders) if part in set(Market)), None)
    if name is None or market is None:
        return None
    interval = "1M" if name["interval"] == ARCHIVE_MONTH else name["interval"]
    return market, name["symbol"], interval


def read(paths: Sequence[Path]) -> Recording:
    """Return the candles of some files in order, each open time once; a later file wins."""
    by_open: dict[int, str] = {}
    for path in paths:
        for line in csv_of(path).decode().splitlines():
            fields = line.split(",")
            if fields[0].isdigit():
                open_ms = _milliseconds(fields[0])
                by_open[open_ms] = _row(open_ms, fields)
    opens = sorted(by_open)
    return Recording(opens, [by_open[open_ms] for open_ms in opens])


def _milliseconds(text: str) -> int:
    moment = int(text)
    return moment // 1_000 if moment > LARGEST_MILLISECONDS else moment


def _row(open_ms: int, fields: list[str]) -> str:
    _, open_, high, low, close, volume, close_time, quote, trades, taker, taker_quote, *_ = fields
    close_ms = _milliseconds(close_time)
    prices = f'"{open_}","{high}","{low}","{close}","{volume}"'
    return f'[{open_ms},{prices},{close_ms},"{quote}",{trades},"{taker}","{taker_quote}","0"]'


def _instruments(market: Market, files: dict[Key, list[Path]]) -> Iterator[Instrument]:
    listed: dict[str, int] = {}
    for (where, symbol, _), paths in files.items():
        if where is market:
            listed[symbol] = min(
                [_first_day(path) for path in paths] + [listed.get(symbol, _first_day(paths[0]))]
            )
    for symbol, listed_ms in sorted(listed.items()):
        base, quote = _split(symbol)
        yield Instrument(market, symbol, base, quote, listed_ms)


def _first_day(path: Path) -> int:
    period = _period(path)
    return utc_ms(period if period.count("-") > 1 else f"{period}-01")


def _period(path: Path) -> str:
    """Return the day or the month that a file's name tells."""
    name = FILE_NAME.fullmatch(path.name)
    assert name is not None
    return f"{name['month']}-{name['day']}" if name["day"] else name["month"]


def _split(symbol: str) -> tuple[str, str]:
    pair = symbol.partition("_")[0]
    quote = next((quote for quote in QUOTES if pair.endswith(quote) and pair != quote), "")
    return pair.removesuffix(quote), quote

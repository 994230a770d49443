"""What the archive has: folders, periods and the CSV of each file, from the function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from deploy.simulator.archive.calendar import periods
from deploy.simulator.archive.names import MONTHLY_ONLY, Cycle, File, Folder
from deploy.simulator.candles import pen
from deploy.simulator.funding import events
from deploy.simulator.intervals import GRIDS
from deploy.simulator.kinds import PRICES, Kind, has_series, kinds_of
from deploy.simulator.markets import RULES, Market
from deploy.simulator.moments import utc_ms
from deploy.simulator.outages import next_trading
from deploy.simulator.prices import FILE_SAMPLES, price_rows
from deploy.simulator.symbols import Instrument, find_pair
from deploy.simulator.timeline import Series
from deploy.simulator.truth import ALL
from deploy.simulator.windows import Window

#: From here on spot's times are microseconds.
MICROSECONDS_FROM_MS = utc_ms("2025-01-01")
#: Futures' files of this month and later begin with a line of names.
HEADER_FROM = "2022-05"
KLINES_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate"


class Shelf(Protocol):
    """Anything the archive can be filled with."""

    def symbols(self, market: Market, cycle: Cycle, kind: Kind) -> Sequence[str]:
        """Return the symbols, or pairs, that have a folder."""
        ...

    def intervals(self, market: Market, cycle: Cycle, kind: Kind, symbol: str) -> Sequence[str]:
        """Return a symbol's intervals; none of a kind without them."""
        ...

    def periods(self, folder: Folder, now_ms: int) -> Sequence[str]:
        """Return the periods a folder has files of by now, oldest first."""
        ...

    def csv(self, file: File) -> list[str]:
        """Return the lines of a file's CSV."""
        ...

    def original(self, file: File) -> bytes | None:
        """Return the zip itself where it is a recorded one."""
        ...


class GeneratedShelf:
    """Files of the function's rows, of listed and of forgotten symbols."""

    def __init__(self, instruments: Mapping[Market, Sequence[Instrument]]) -> None:
        self._by_name: dict[tuple[Market, bool], dict[str, Instrument]] = {}
        for market, listed in instruments.items():
            pairs = (find_pair(market, instrument.pair) for instrument in listed)
            self._by_name[market, False] = {instrument.name: instrument for instrument in listed}
            self._by_name[market, True] = {pair.name: pair for pair in pairs if pair}

    def symbols(self, market: Market, cycle: Cycle, kind: Kind) -> Sequence[str]:
        """Return the names a kind has series of."""
        if kind not in kinds_of(market) or (kind is Kind.FUNDING and cycle is Cycle.DAILY):
            return ()
        named = self._by_name[market, kind is Kind.INDEX]
        return [name for name, instrument in named.items() if has_series(instrument, kind)]

    def intervals(self, market: Market, cycle: Cycle, kind: Kind, symbol: str) -> Sequence[str]:
        """Return the market's intervals, without those too long for a day's file."""
        if kind is Kind.FUNDING:
            return ()
        return [
            one
            for one in RULES[market].intervals
            if cycle is Cycle.MONTHLY or one not in MONTHLY_ONLY
        ]

    def periods(self, folder: Folder, now_ms: int) -> Sequence[str]:
        """Return the periods from the listing to the end of trading."""
        where = (folder.market, folder.cycle, folder.kind)
        intervals = self.intervals(*where, folder.symbol)
        if folder.symbol not in self.symbols(*where) or folder.interval not in (intervals or ("",)):
            return ()
        instrument = self._instrument(folder)
        first_ms = next_trading(folder.market, instrument.listed_ms)
        if folder.interval:
            grid = GRIDS[folder.interval]
            first_ms = grid.open_of(grid.index_at(first_ms))
        return list(periods(folder, first_ms, instrument.ends_ms or now_ms, now_ms))

    def csv(self, file: File) -> list[str]:
        """Return the file's rows as that market and that year wrote them."""
        folder = file.folder
        instrument = self._instrument(folder)
        if folder.kind is Kind.FUNDING:
            found = events(instrument, file.start_ms, file.end_ms - 1)
            return [
                FUNDING_HEADER,
                *(f"{event.at_ms},{event.hours},{event.rate}" for event in found),
            ]
        rows = (
            self._prices(instrument, file)
            if folder.kind in PRICES
            else self._klines(instrument, file)
        )
        has_header = folder.market is not Market.SPOT and file.period >= HEADER_FROM
        return [KLINES_HEADER, *rows] if has_header else rows

    def original(self, file: File) -> bytes | None:
        """Return nothing: these files are made."""
        return None

    def _instrument(self, folder: Folder) -> Instrument:
        return self._by_name[folder.market, folder.kind is Kind.INDEX][folder.symbol]

    def _klines(self, instrument: Instrument, file: File) -> list[str]:
        series = Series(instrument, file.folder.interval)
        lines = (
            pen(series).csv(list(series.runs(file.start_ms, file.end_ms - 1))).decode().splitlines()
        )
        if file.folder.market is Market.SPOT and file.start_ms >= MICROSECONDS_FROM_MS:
            return [_in_microseconds(line) for line in lines]
        return [f"{line},0" for line in lines]

    def _prices(self, instrument: Instrument, file: File) -> list[str]:
        window = Window(file.start_ms, file.end_ms - 1, ALL, newest=False)
        rows = price_rows(instrument, file.folder.kind, file.folder.interval, window)
        return [
            f"{row.open_ms},{row.open},{row.high},{row.low},{row.close},0,{row.close_ms},0,{FILE_SAMPLES},0,0,0"
            for row in rows
        ]


def _in_microseconds(line: str) -> str:
    open_ms, rest = line.split(",", 1)
    fields = rest.split(",", 6)
    return f"{open_ms}000,{','.join(fields[:5])},{fields[5]}999,{fields[6]},0"

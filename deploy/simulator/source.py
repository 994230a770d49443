"""Where pages come from: a catalogue of instruments and their candles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from deploy.simulator import refusals
from deploy.simulator.archive.shelf import GeneratedShelf, Shelf
from deploy.simulator.candles import pen
from deploy.simulator.funding import events_of, funding_page
from deploy.simulator.kinds import PRICES, Kind
from deploy.simulator.markets import Market
from deploy.simulator.prices import price_page, price_rows
from deploy.simulator.symbols import Instrument, catalogue, find_pair, forgotten
from deploy.simulator.timeline import Series, newest, oldest
from deploy.simulator.windows import Window


class Page(NamedTuple):
    """An answer: its body and how many rows are in it."""

    body: bytes
    rows: int


EMPTY_PAGE = Page(b"[]", 0)


class Source(Protocol):
    """Anything the server can serve: the function below, or recorded files."""

    @property
    def shelf(self) -> Shelf:
        """Return what fills the archive."""
        ...

    def instruments(self, market: Market) -> Sequence[Instrument]:
        """Return what exchangeInfo lists."""
        ...

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
        """Return the rows of a window, or raise the refusal for an unknown symbol."""
        ...


class Generated:
    """Candles made up on the spot, for a catalogue of a given size."""

    def __init__(self, symbols: int) -> None:
        self._instruments = {market: catalogue(market, symbols) for market in Market}
        self._by_name: dict[tuple[Market, bool, str], Instrument] = {}
        for market, instruments in self._instruments.items():
            for listed in instruments:
                self._by_name[market, False, listed.name] = listed
                if pair := find_pair(market, listed.pair):
                    self._by_name[market, True, pair.name] = pair
        self.shelf = GeneratedShelf(
            {market: [*self._instruments[market], *forgotten(market)] for market in Market}
        )

    def instruments(self, market: Market) -> Sequence[Instrument]:
        """Return the catalogue of a market."""
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
        """Return the rows of a window as the function makes them."""
        instrument = self._by_name.get((market, kind is Kind.INDEX, symbol))
        if instrument is None:
            raise refusals.invalid_symbol()
        if window.low_ms > window.high_ms:
            return EMPTY_PAGE
        if kind is Kind.FUNDING:
            found = events_of(instrument, window)
            return Page(funding_page(instrument, found), len(found))
        if kind in PRICES:
            rows = price_rows(instrument, kind, interval, window)
            return Page(price_page(rows, now_ms), len(rows))
        series = Series(instrument, interval)
        choose = newest if window.newest else oldest
        runs = choose(series, window.low_ms, window.high_ms, window.limit)
        return Page(pen(series).page(runs, now_ms), sum(run.rows for run in runs))

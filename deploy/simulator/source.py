"""Where pages come from: a catalogue of instruments and their candles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from deploy.simulator import refusals
from deploy.simulator.candles import pen
from deploy.simulator.markets import Market
from deploy.simulator.symbols import Instrument, catalogue
from deploy.simulator.timeline import Series, newest, oldest
from deploy.simulator.windows import Window


class Page(NamedTuple):
    """A kline answer: its body and how many candles are in it."""

    body: bytes
    rows: int


EMPTY_PAGE = Page(b"[]", 0)


class Source(Protocol):
    """Anything the server can serve: the function below, or recorded files."""

    def instruments(self, market: Market) -> Sequence[Instrument]:
        """Return what exchangeInfo lists."""
        ...

    def page(self, market: Market, symbol: str, interval: str, window: Window, *, now_ms: int) -> Page:
        """Return the candles of a window, or raise the refusal for an unknown symbol."""
        ...


class Generated:
    """Candles made up on the spot, for a catalogue of a given size."""

    def __init__(self, symbols: int) -> None:
        self._instruments = {market: catalogue(market, symbols) for market in Market}
        self._by_name = {
            (market, instrument.name): instrument
            for market, instruments in self._instruments.items()
            for instrument in instruments
        }

    def instruments(self, market: Market) -> Sequence[Instrument]:
        """Return the catalogue of a market."""
        return self._instruments[market]

    def page(self, market: Market, symbol: str, interval: str, window: Window, *, now_ms: int) -> Page:
        """Return the candles of a window as the function makes them."""
        instrument = self._by_name.get((market, symbol))
        if instrument is None:
            raise refusals.invalid_symbol()
        if window.low_ms > window.high_ms:
            return EMPTY_PAGE
        series = Series(instrument, interval)
        choose = newest if window.newest else oldest
        runs = choose(series, window.low_ms, window.high_ms, window.limit)
        return Page(pen(series).page(runs, now_ms), sum(run.rows for run in runs))

"""Candles as a pure function of market, symbol, interval and open time.

They are written as the rows of a page or of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from deploy.simulator.stamps import close_texts, open_texts
from deploy.simulator.tables import (
    FLOWS,
    PRICES,
    Flow,
    Price,
    Script,
    Tables,
    flow_texts_of,
    price_texts_of,
    tables,
)
from deploy.simulator.timeline import Run, Series

#: How finely a candle still forming is measured.
WHOLE = 1_000
NO_FLOW = Flow(0, 0, 0, 0)
#: A row is written in six pieces: open time (two), prices and volume, close time (two), turnover
#: and trades.
PIECES = 6


@dataclass(frozen=True, slots=True)
class Pen:
    """Writes one series' candles; `shift` is where in the tables the series begins."""

    tables: Tables
    shift: int

    def page(self, runs: list[Run], now_ms: int) -> bytes:
        """Return the runs as a JSON page.

        A last candle that is still forming is written as far as it has come.
        """
        if not runs:
            return b"[]"
        closed, forming = split_forming(runs, now_ms)
        pieces = self._write(closed, self.tables.json)
        if forming is not None:
            pieces.append(self._forming(forming, now_ms))
        # Every row leads with a comma; the first one must not.
        pieces[0] = "[" + pieces[0][1:]
        pieces.append("]")
        return "".join(pieces).encode()

    def csv(self, runs: list[Run]) -> bytes:
        """Return the runs as CSV lines of eleven columns, without a header.

        The exchange's unused twelfth column is left out.
        """
        return b"".join(
            "".join(self._write([part], self.tables.csv)).encode()
            for run in runs
            for part in _parts(run)
        )

    def _write(self, runs: list[Run], script: Script) -> list[str]:
        pieces: list[str] = []
        for run in runs:
            pieces += self._run(run, script)
        return pieces

    def _run(self, run: Run, script: Script) -> list[str]:
        rows = run.rows
        pieces = [""] * (rows * PIECES)
        pieces[0::PIECES], pieces[1::PIECES] = open_texts(run.grid, run.first, rows, script.lead)
        pieces[3::PIECES], pieces[4::PIECES] = close_texts(run.grid, run.first, rows)
        pieces[2::PIECES], pieces[5::PIECES] = self._numbers(run, script)
        if run.cut_close_ms is not None:
            pieces[-3], pieces[-2] = "", str(run.cut_close_ms)
        return pieces

    def _numbers(self, run: Run, script: Script) -> tuple[list[str], list[str]]:
        price_at, flow_at = self._places(run.first)
        if not run.flat:
            return script.prices[price_at : price_at + run.rows], script.flows[
                flow_at : flow_at + run.rows
            ]
        # What the candle before closed with is where everything stood still.
        still = self.tables.prices[price_at].open
        prices = price_texts_of(Price(still, still, still, still, 0), self.tables.digits)
        flows = flow_texts_of(NO_FLOW, self.tables.digits)
        return [script.write_prices(prices)] * run.rows, [script.write_flows(flows)] * run.rows

    def _forming(self, run: Run, now_ms: int) -> str:
        """Return a candle that is still forming.

        It always has less volume and fewer trades than it will close with.
        """
        script, digits = self.tables.json, self.tables.digits
        start, end = run.grid.open_of(run.last), close_of(run)
        done = min(WHOLE - 1, max(0, (now_ms - start) * WHOLE // (end + 1 - start)))
        price_at, flow_at = self._places(run.last)
        price = _part_price(self.tables.prices[price_at], done)
        flow = Flow(*(number * done // WHOLE for number in self.tables.flows[flow_at]))
        prices = script.write_prices(price_texts_of(price, digits))
        flows = script.write_flows(flow_texts_of(flow, digits))
        return f"{script.lead}{start}{prices}{end}{flows}"

    def _places(self, index: int) -> tuple[int, int]:
        return (index + self.shift) % PRICES, (index + self.shift) % FLOWS


@lru_cache(maxsize=8192)
def pen(series: Series) -> Pen:
    """Return the pen of a series; every series starts at its own place in the tables."""
    instrument = series.instrument
    name = f"{instrument.market} {instrument.name} {series.interval}"
    return Pen(tables(instrument.market), crc32(name.encode()) % (PRICES * FLOWS))


def close_of(run: Run) -> int:
    """Return the close time of the run's last candle."""
    return run.grid.open_of(run.last + 1) - 1 if run.cut_close_ms is None else run.cut_close_ms


def split_forming(runs: list[Run], now_ms: int) -> tuple[list[Run], Run | None]:
    """Return the closed candles, and the last one by itself if it is still forming."""
    last = runs[-1]
    if close_of(last) < now_ms:
        return runs, None
    closed = runs[:-1]
    if last.rows > 1:
        closed.append(last.part(last.first, last.last - 1))
    return closed, last.part(last.last, last.last)


def _part_price(price: Price, done: int) -> Price:
    close = price.open + (price.close - price.open) * done // WHOLE
    high = max(price.open, close, price.open + (price.high - price.open) * done // WHOLE)
    low = min(price.open, close, price.open + (price.low - price.open) * done // WHOLE)
    return Price(price.open, high, low, close, price.volume * done // WHOLE)


def _parts(run: Run) -> Iterator[Run]:
    """Yield the run in parts no longer than one loop of the tables."""
    for first in range(run.first, run.last + 1, FLOWS):
        yield run.part(first, min(first + FLOWS - 1, run.last))

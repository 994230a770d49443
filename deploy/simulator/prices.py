"""Mark, index and premium prices: candles without volumes, a pure function like the klines."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from deploy.simulator.candles import pen
from deploy.simulator.kinds import Kind, has_series
from deploy.simulator.markets import Market
from deploy.simulator.moments import utc_ms
from deploy.simulator.symbols import Instrument
from deploy.simulator.timeline import Series, newest, oldest
from deploy.simulator.windows import Window

#: Open times that the real mark prices of USD-M lack.
MARK_HOLE = range(utc_ms("2023-11-10 03:40"), utc_ms("2023-11-10 04:00"))
#: So many candles at most lie in it.
MARK_HOLE_ROWS = 20
#: What candles of a page and of a file tell in place of a number of trades.
PAGE_SAMPLES, FILE_SAMPLES = 12, 60
#: A premium is a hundred-millionth of how far the price has wandered from here: some
#: ten-thousandths either way.
PREMIUM_FROM, PREMIUM_SCALE = 30_000, 1e8


class PriceRow(NamedTuple):
    """One candle of prices, times in ms."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    close_ms: int


def price_rows(instrument: Instrument, kind: Kind, interval: str, window: Window) -> list[PriceRow]:
    """Return the candles of a window, oldest first, a forming one as it will be."""
    if not has_series(instrument, kind) or window.low_ms > window.high_ms:
        return []
    series = Series(replace(instrument, name=f"{kind}:{instrument.name}"), interval)
    choose = newest if window.newest else oldest
    runs = choose(series, window.low_ms, window.high_ms, window.limit + MARK_HOLE_ROWS)
    lines = pen(series).csv([replace(run, flat=False) for run in runs]).decode().splitlines()
    rows = [_price_row(kind, line.split(",")) for line in lines]
    if kind is Kind.MARK and instrument.market is Market.USD_M:
        rows = [row for row in rows if row.open_ms not in MARK_HOLE]
    return rows[-window.limit :] if window.newest else rows[: window.limit]


def price_page(rows: list[PriceRow], now_ms: int) -> bytes:
    """Return price candles as the twelve columns of a page; a forming one has not moved yet."""
    texts = ",".join(_json(row if row.close_ms < now_ms else _forming(row)) for row in rows)
    return f"[{texts}]".encode()


def price_csv(rows: list[PriceRow]) -> bytes:
    """Return price candles as lines of open_time,open,high,low,close,close_time."""
    return "".join(f"{','.join(map(str, row))}\n" for row in rows).encode()


def _price_row(kind: Kind, fields: list[str]) -> PriceRow:
    texts = fields[1:5]
    if kind is Kind.PREMIUM:
        texts = [f"{(float(text) - PREMIUM_FROM) / PREMIUM_SCALE:.8f}" for text in texts]
    open_, high, low, close = texts
    return PriceRow(int(fields[0]), open_, high, low, close, int(fields[6]))


def _forming(row: PriceRow) -> PriceRow:
    return row._replace(high=row.open, low=row.open, close=row.open)


def _json(row: PriceRow) -> str:
    prices = f'"{row.open}","{row.high}","{row.low}","{row.close}"'
    return f'[{row.open_ms},{prices},"0",{row.close_ms},"0",{PAGE_SAMPLES},"0","0","0"]'

"""What a lake without a fault must hold, for tests to compare against."""

from __future__ import annotations

from deploy.simulator.candles import pen, split_forming
from deploy.simulator.markets import Market
from deploy.simulator.symbols import find
from deploy.simulator.timeline import Series


def truth(market: str, symbol: str, interval: str, start_ms: int, end_ms: int, *, now_ms: int) -> bytes:
    """Return all closed candles with `start_ms` <= open time < `end_ms` as CSV without a header, oldest first.

    Columns: open_time, open, high, low, close, volume, close_time, quote_volume, count, taker_buy_volume,
    taker_buy_quote_volume; times in milliseconds.
    """
    instrument = find(Market(market), symbol)
    if instrument is None:
        raise KeyError(f"{market} has no symbol {symbol}")
    series = Series(instrument, interval)
    runs = list(series.runs(start_ms, min(end_ms - 1, now_ms)))
    closed = split_forming(runs, now_ms)[0] if runs else []
    return pen(series).csv(closed)

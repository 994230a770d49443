"""What a lake without a fault must hold, for tests to compare against."""

from __future__ import annotations

from deploy.simulator.candles import pen, split_forming
from deploy.simulator.funding import events
from deploy.simulator.kinds import PRICES, Kind, instrument_of
from deploy.simulator.markets import Market
from deploy.simulator.prices import price_csv, price_rows
from deploy.simulator.symbols import Instrument
from deploy.simulator.timeline import Series
from deploy.simulator.windows import Window

#: More candles than there are of any interval in the years the exchange knows.
ALL = 1 << 40


def truth(
    market: str,
    symbol: str,
    interval: str,
    start_ms: int,
    end_ms: int,
    *,
    now_ms: int,
    kind: str = "klines",
) -> bytes:
    """Return all closed rows with `start_ms` <= time < `end_ms` as CSV, oldest first.

    There is no header; times are in ms.

    klines: open_time, open, high, low, close, volume, close_time, quote_volume, count,
    taker_buy_volume, taker_buy_quote_volume. Mark, index and premium prices: open_time, open, high,
    low, close, close_time. fundingRate, whatever the interval: calc_time, funding_interval_hours,
    last_funding_rate, mark_price ("" where the exchange sent none).
    """
    instrument = instrument_of(Market(market), Kind(kind), symbol)
    if instrument is None:
        raise KeyError(f"{market} has no {kind} of {symbol}")
    last_ms = min(end_ms - 1, now_ms)
    if kind == Kind.FUNDING:
        found = events(instrument, start_ms, last_ms)
        return "".join(f"{e.at_ms},{e.hours},{e.rate},{e.mark_price}\n" for e in found).encode()
    if kind in PRICES:
        rows = price_rows(
            instrument, Kind(kind), interval, Window(start_ms, last_ms, ALL, newest=False)
        )
        return price_csv([row for row in rows if row.close_ms < now_ms])
    return _klines(instrument, interval, start_ms, last_ms, now_ms)


def _klines(
    instrument: Instrument, interval: str, start_ms: int, last_ms: int, now_ms: int
) -> bytes:
    series = Series(instrument, interval)
    runs = list(series.runs(start_ms, last_ms))
    closed = split_forming(runs, now_ms)[0] if runs else []
    return pen(series).csv(closed)

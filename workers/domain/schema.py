"""Columns and types per Kind: what a partition holds, in the archive's own names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from klinefleet.workers.domain.series import Kind


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle as back-testers take it; `timestamp` is its open time, UTC."""

    symbol: str
    timestamp: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


#: A moment in the lake: milliseconds, UTC.
MOMENT = pl.Datetime("ms", "UTC")

_CANDLE = {
    "open_time": MOMENT,
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
}

#: Mark, index and premium candles have no volumes; the exchange fills those columns with zeros, and
#: the count of trades with a placeholder that differs between REST and the archive. They are left
#: out.
_PRICES = pl.Schema({**_CANDLE, "close_time": MOMENT})

SCHEMAS: dict[Kind, pl.Schema] = {
    Kind.KLINES: pl.Schema(
        {
            **_CANDLE,
            "volume": pl.Float64(),
            "close_time": MOMENT,
            "quote_volume": pl.Float64(),
            "count": pl.Int64(),
            "taker_buy_volume": pl.Float64(),
            "taker_buy_quote_volume": pl.Float64(),
        }
    ),
    Kind.MARK: _PRICES,
    Kind.INDEX: _PRICES,
    Kind.PREMIUM: _PRICES,
    # REST alone tells the mark price, the archive alone the hours: each leaves the other's column
    # null.
    Kind.FUNDING: pl.Schema(
        {
            "calc_time": MOMENT,
            "funding_interval_hours": pl.Int64(),
            "last_funding_rate": pl.Float64(),
            "mark_price": pl.Float64(),
        }
    ),
}


def time_column(kind: Kind) -> str:
    """Return the column that rows are sorted and told apart by."""
    return next(iter(SCHEMAS[kind]))

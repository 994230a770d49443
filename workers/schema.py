"""Columns and types per Kind: what a partition holds, in the archive's own names."""

from __future__ import annotations

import polars as pl

from workers.model import Kind

#: A moment in the lake: milliseconds, UTC.
MOMENT = pl.Datetime("ms", "UTC")

SCHEMAS: dict[Kind, pl.Schema] = {
    Kind.KLINES: pl.Schema(
        {
            "open_time": MOMENT,
            "open": pl.Float64(),
            "high": pl.Float64(),
            "low": pl.Float64(),
            "close": pl.Float64(),
            "volume": pl.Float64(),
            "close_time": MOMENT,
            "quote_volume": pl.Float64(),
            "count": pl.Int64(),
            "taker_buy_volume": pl.Float64(),
            "taker_buy_quote_volume": pl.Float64(),
        }
    ),
}

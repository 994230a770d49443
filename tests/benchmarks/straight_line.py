"""What the fleet is measured against: one asyncio process that fetches the same pages.

It has 50 calls in flight, and keeps nothing raw, checks nothing, retries nothing and remembers
nothing.

    python tests/benchmarks/straight_line.py URL SYMBOL START_MS END_MS AT_ONCE OUT.parquet
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import polars as pl

ROWS, MINUTE_MS = 1000, 60_000
COLUMNS = {
    "open_time": pl.Int64,
    "open": pl.String,
    "high": pl.String,
    "low": pl.String,
    "close": pl.String,
    "volume": pl.String,
    "close_time": pl.Int64,
    "quote_volume": pl.String,
    "count": pl.Int64,
    "taker_buy_volume": pl.String,
    "taker_buy_quote_volume": pl.String,
    "ignore": pl.String,
}
NUMBERS = [name for name, dtype in COLUMNS.items() if dtype is pl.String and name != "ignore"]


async def fetch(
    url: str, symbol: str, start_ms: int, end_ms: int, at_once: int
) -> list[list[object]]:
    """Return all rows, oldest first."""
    gate = asyncio.Semaphore(at_once)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:

        async def page(from_ms: int) -> list[list[object]]:
            to_ms = min(from_ms + ROWS * MINUTE_MS, end_ms) - 1
            params = {
                "symbol": symbol,
                "interval": "1m",
                "startTime": from_ms,
                "endTime": to_ms,
                "limit": ROWS,
            }
            async with gate, session.get(f"{url}/api/v3/klines", params=params) as response:
                response.raise_for_status()
                rows: list[list[object]] = await response.json()
                return rows

        pages = await asyncio.gather(
            *(page(ms) for ms in range(start_ms, end_ms, ROWS * MINUTE_MS))
        )
    return [row for rows in pages for row in rows]


def main() -> None:
    url, symbol, start_ms, end_ms, at_once, out = sys.argv[1:]
    rows = asyncio.run(fetch(url, symbol, int(start_ms), int(end_ms), int(at_once)))
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row").drop("ignore")
    moments = pl.col("open_time", "close_time").cast(pl.Datetime("ms", "UTC"))
    frame.with_columns(moments, pl.col(NUMBERS).cast(pl.Float64)).write_parquet(
        out, compression="zstd"
    )


if __name__ == "__main__":
    main()

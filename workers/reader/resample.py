"""Coarser candles from finer ones, and rows made up where the exchange has none: only where
somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.schema import MOMENT, SCHEMAS, time_column
from klinefleet.workers.domain.series import Kind
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.candle_grid import CandleGrid

#: How the columns of several candles become those of one; those that a kind lacks are left out.
_JOINED = {
    "open": pl.col("open").first(),
    "high": pl.col("high").max(),
    "low": pl.col("low").min(),
    "close": pl.col("close").last(),
    "volume": pl.col("volume").sum(),
    "quote_volume": pl.col("quote_volume").sum(),
    "count": pl.col("count").sum(),
    "taker_buy_volume": pl.col("taker_buy_volume").sum(),
    "taker_buy_quote_volume": pl.col("taker_buy_quote_volume").sum(),
}
#: The column that marks rows which the exchange never had.
MADE_UP = "is_made_up"


@dataclass(frozen=True, slots=True)
class Shape:
    """What is made of a series' rows before they are given away: coarser candles, filled up; or
    nothing.
    """

    kind: Kind
    grid: CandleGrid | None
    """Where the rows open that are given away; events have none."""
    is_coarser: bool
    is_filled: bool

    @classmethod
    def of(cls, kind: Kind, interval: Interval, coarser: str | None, fill: str | None) -> Shape:
        """Return what is asked for; RequestError where it cannot be made."""
        if fill not in (None, "forward"):
            raise RequestError(f"rows can be filled 'forward', not {fill!r}; nothing was read")
        if not interval.is_grid:
            if coarser or fill:
                raise RequestError(
                    f"kind {kind} has events, not candles: none can be made of them; nothing "
                    "was read"
                )
            return cls(kind, None, False, False)
        held = CandleGrid.of(interval)
        wanted = held if coarser is None else CandleGrid.parse(coarser)
        if not wanted.is_made_of(held):
            raise RequestError(
                f"candles of {coarser} are not made of whole ones of {interval}; nothing was read"
            )
        return cls(kind, wanted, wanted != held, bool(fill))

    @property
    def is_shaped(self) -> bool:
        """Whether rows are changed at all."""
        return self.is_coarser or self.is_filled

    def ceil(self, ms: int | None) -> int | None:
        """Return the first open time at or after `ms` of what is given away."""
        return ms if ms is None or self.grid is None else self.grid.ceil_ms(ms)

    def made(self, rows: pl.DataFrame, held: Sequence[Span], life: Span | None) -> pl.DataFrame:
        """Return what is made of one symbol's rows, of which the `held` time is known; no candle is
        made of a part.

        The first candle after the listing and the last before the end of trading are whole as they
        are.
        """
        if self.grid is None:
            return rows
        if self.is_coarser:
            held = [_whole(self.grid, span, life) for span in held]
            opened = pl.col("open_time").dt.timestamp("ms")
            inside = [(opened >= span.start_ms) & (opened < span.end_ms) for span in held]
            rows = resample(rows, self.grid).filter(
                pl.any_horizontal(inside) if inside else pl.lit(False)
            )
        return fill_forward(self.kind, rows, self.grid, held) if self.is_filled else rows


def resample(rows: pl.DataFrame, grid: CandleGrid) -> pl.DataFrame:
    """Return one candle for each open time of `grid` under which there are rows.

    `rows` are candles sorted by open_time, of one symbol, or of several (column `symbol`) one after
    the other; the result has the columns in the same order. The first and the last candle are made
    of the rows there are: cut `rows` at open times of the grid. Minutes that the exchange does not
    have are missing in the sums, as in its own candles.
    """
    by = [pl.col("symbol")] if "symbol" in rows.columns else []
    opened = grid.floor(pl.col("open_time")).alias("_open")
    joined = [expression for name, expression in _JOINED.items() if name in rows.columns]
    made = (
        rows.group_by(*by, opened, maintain_order=True).agg(joined).rename({"_open": "open_time"})
    )
    closed = (
        (grid.next(pl.col("open_time")) - pl.duration(milliseconds=1))
        .cast(MOMENT)
        .alias("close_time")
    )
    return made.with_columns(closed).select(rows.columns)


def fill_forward(
    kind: Kind, rows: pl.DataFrame, grid: CandleGrid, held: Sequence[Span]
) -> pl.DataFrame:
    """Return one symbol's candles with the missing ones of the `held` spans made up, and the column
    `is_made_up`.

    A made-up candle has the close before it in all four prices, and no volume. Before the first row
    nothing is made up: there is nothing to go on with. What is not held stays missing.
    """
    time = time_column(kind)
    marked = rows.with_columns(pl.lit(False).alias(MADE_UP))
    if not rows.height:
        return marked
    had = rows.select(grid.floor(pl.col(time)).dt.timestamp("ms")).to_series()
    first_ms = int(had[0])
    opens = [grid.opens(span) for span in held]
    wanted = pl.concat(opens) if opens else pl.Series(dtype=pl.Int64)
    gone = wanted.filter((wanted > first_ms) & ~wanted.is_in(had.implode()))
    if not gone.len():
        return marked
    opened = pl.col(time)
    made = gone.cast(MOMENT).alias(time).to_frame().with_columns(pl.lit(True).alias(MADE_UP))
    both = pl.concat([marked, made], how="diagonal").sort(time)
    last = pl.col("close").forward_fill()
    filled: dict[str, pl.Expr] = {
        name: pl.col(name).fill_null(last) for name in ("open", "high", "low", "close")
    }
    filled["close_time"] = pl.col("close_time").fill_null(
        grid.next(opened) - pl.duration(milliseconds=1)
    )
    sums = [name for name in SCHEMAS[kind] if name not in (time, *filled)]
    return both.with_columns(**filled, **{name: pl.col(name).fill_null(0) for name in sums}).select(
        marked.columns
    )


def _whole(grid: CandleGrid, held: Span, life: Span | None) -> Span:
    """Return the part of the held time that is whole candles of the grid."""
    start_ms, end_ms = grid.ceil_ms(held.start_ms), grid.floor_ms(held.end_ms)
    if life and held.start_ms <= life.start_ms:
        start_ms = grid.floor_ms(held.start_ms)
    if life and held.end_ms >= life.end_ms:
        end_ms = grid.ceil_ms(held.end_ms)
    return Span(start_ms, max(start_ms, end_ms))

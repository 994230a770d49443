"""Coarser candles from finer ones, and rows made up where the exchange has none: only where
somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Aggregate, Kind
from klinefleet.workers.domain.schema import MOMENT
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.candle_grid import CandleGrid

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
            rows = resample(self.kind, rows, self.grid).filter(
                pl.any_horizontal(inside) if inside else pl.lit(False)
            )
        return fill_forward(self.kind, rows, self.grid, held) if self.is_filled else rows


def resample(kind: Kind, rows: pl.DataFrame, grid: CandleGrid) -> pl.DataFrame:
    """Return one candle for each open time of `grid` under which there are rows.

    `rows` are candles sorted by open_time, of one symbol, or of several (column `symbol`) one after
    the other; the result has the columns in the same order. The first and the last candle are made
    of the rows there are: cut `rows` at open times of the grid. Minutes that the exchange does not
    have are missing in the sums, as in its own candles.
    """
    by = [pl.col("symbol")] if "symbol" in rows.columns else []
    opened = grid.floor(pl.col("open_time")).alias("_open")
    values = [
        getattr(pl.col(column.name), column.aggregate.value)()
        for column in kind.columns
        if column.aggregate and column.name in rows.columns
    ]
    candles = rows.group_by(*by, opened, maintain_order=True).agg(values)
    made = candles.rename({"_open": "open_time"})
    closed = (
        (grid.next(pl.col("open_time")) - pl.duration(milliseconds=1))
        .cast(MOMENT)
        .alias("close_time")
    )
    return made.with_columns(closed).select(rows.columns)


def fill_forward(
    kind: Kind, rows: pl.DataFrame, grid: CandleGrid, held: Sequence[Span]
) -> pl.DataFrame:
    """Return one symbol's candles, those missing in `held` made up, and the column `is_made_up`.

    A made-up candle has the close before it in all four prices, and no volume. Nothing is made up
    before the first row: there is no price to go on with. What is not held stays missing.
    """
    marked = rows.with_columns(pl.lit(False).alias(MADE_UP))
    gone = _missing_opens(kind, rows, grid, held)
    if not gone.len():
        return marked
    time = kind.time_column
    made = gone.cast(MOMENT).alias(time).to_frame().with_columns(pl.lit(True).alias(MADE_UP))
    both = pl.concat([marked, made], how="diagonal").sort(time)
    last_close = pl.col("close").forward_fill()
    close_time = grid.next(pl.col(time)) - pl.duration(milliseconds=1)
    values = [column for column in kind.columns if column.aggregate and not column.may_be_null]
    filled = [
        pl.col(column.name).fill_null(0 if column.aggregate is Aggregate.SUM else last_close)
        for column in values
    ]
    return both.with_columns(*filled, pl.col("close_time").fill_null(close_time)).select(
        marked.columns
    )


def _missing_opens(
    kind: Kind, rows: pl.DataFrame, grid: CandleGrid, held: Sequence[Span]
) -> pl.Series:
    """Return the open times of the grid in `held` after the first row that have none, ms UTC."""
    opens = [grid.opens(span) for span in held]
    if not opens or not rows.height:
        return pl.Series(dtype=pl.Int64)
    had = rows.select(grid.floor(pl.col(kind.time_column)).dt.timestamp("ms")).to_series()
    wanted = pl.concat(opens)
    return wanted.filter((wanted > int(had[0])) & ~wanted.is_in(had.implode()))


def _whole(grid: CandleGrid, held: Span, life: Span | None) -> Span:
    """Return the part of the held time that is whole candles of the grid."""
    start_ms, end_ms = grid.ceil_ms(held.start_ms), grid.floor_ms(held.end_ms)
    if life and held.start_ms <= life.start_ms:
        start_ms = grid.floor_ms(held.start_ms)
    if life and held.end_ms >= life.end_ms:
        end_ms = grid.ceil_ms(held.end_ms)
    return Span(start_ms, max(start_ms, end_ms))

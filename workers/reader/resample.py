"""Coarser candles made of finer ones, and missing candles filled. Both only on request."""

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

#: The Boolean column that marks filled candles: rows that the exchange never had.
MADE_UP = "is_made_up"


@dataclass(frozen=True, slots=True)
class Reshaping:
    """How rows are changed before they are returned: resampled, filled, both, or not at all."""

    kind: Kind
    grid: CandleGrid | None
    """Open times of the returned candles; None for events."""
    is_resampled: bool
    is_filled: bool

    @classmethod
    def parse(
        cls, kind: Kind, interval: Interval, resample: str | None, fill: str | None
    ) -> Reshaping:
        """Return the reshaping that `resample` and `fill` ask for; RequestError if impossible."""
        if fill not in (None, "forward"):
            raise RequestError(f"fill must be 'forward', not {fill!r}; nothing was read")
        if not interval.is_grid:
            if resample or fill:
                raise RequestError(
                    f"kind {kind} has events, not candles: they cannot be resampled or filled; "
                    "nothing was read"
                )
            return cls(kind, None, is_resampled=False, is_filled=False)
        stored = CandleGrid.of(interval)
        returned = stored if resample is None else CandleGrid.parse(resample)
        if not returned.is_made_of(stored):
            raise RequestError(
                f"a {resample} candle is not a whole number of {interval} candles; nothing was read"
            )
        return cls(kind, returned, is_resampled=returned != stored, is_filled=bool(fill))

    @property
    def has_effect(self) -> bool:
        """Whether rows are changed at all."""
        return self.is_resampled or self.is_filled

    def ceil(self, ms: int | None) -> int | None:
        """Return the first open time of a returned candle at or after `ms`; None stays None."""
        return ms if ms is None or self.grid is None else self.grid.ceil_ms(ms)

    def apply(
        self, rows: pl.DataFrame, held: Sequence[Span], trading_span: Span | None
    ) -> pl.DataFrame:
        """Return one symbol's rows, resampled and filled.

        `held` are the spans that the lake holds: no candle is made of a part of its time. Only the
        first and the last candle of `trading_span` are made of what there is, as the exchange does.
        """
        if self.grid is None:
            return rows
        if self.is_resampled:
            held = [_whole_candles(self.grid, span, trading_span) for span in held]
            open_ms = pl.col("open_time").dt.timestamp("ms")
            is_held = [(open_ms >= span.start_ms) & (open_ms < span.end_ms) for span in held]
            rows = resample(self.kind, rows, self.grid).filter(
                pl.any_horizontal(is_held) if is_held else pl.lit(False)
            )
        return fill_forward(self.kind, rows, self.grid, held) if self.is_filled else rows


def resample(kind: Kind, rows: pl.DataFrame, grid: CandleGrid) -> pl.DataFrame:
    """Return one candle for each open time of `grid` under which there are rows.

    `rows` are candles sorted by open_time, of one symbol, or of several symbols (column `symbol`)
    one after the other. The result has the same columns in the same order. The first and the last
    candle are made of the rows given, so cut `rows` at open times of the grid. Minutes that the
    exchange lacks are missing in the sums, as they are in its own coarser candles.
    """
    symbol = [pl.col("symbol")] if "symbol" in rows.columns else []
    new_open = grid.floor(pl.col("open_time")).alias("_new_open")
    aggregates = [
        getattr(pl.col(column.name), column.aggregate.value)()
        for column in kind.columns
        if column.aggregate and column.name in rows.columns
    ]
    candles = (
        rows.group_by(*symbol, new_open, maintain_order=True)
        .agg(aggregates)
        .rename({"_new_open": "open_time"})
    )
    close_time = grid.next(pl.col("open_time")) - pl.duration(milliseconds=1)
    return candles.with_columns(close_time.cast(MOMENT).alias("close_time")).select(rows.columns)


def fill_forward(
    kind: Kind, rows: pl.DataFrame, grid: CandleGrid, held: Sequence[Span]
) -> pl.DataFrame:
    """Return one symbol's candles with those missing in `held` filled, and `is_made_up`.

    A filled candle has the previous close as its four prices, and no volume. Nothing is filled
    before the first row, since there is no price yet, or outside `held`.
    """
    marked = rows.with_columns(pl.lit(False).alias(MADE_UP))
    missing_opens = _missing_opens(kind, rows, grid, held)
    if not missing_opens.len():
        return marked
    time = kind.time_column
    empty_candles = (
        missing_opens.cast(MOMENT).alias(time).to_frame().with_columns(pl.lit(True).alias(MADE_UP))
    )
    candles = pl.concat([marked, empty_candles], how="diagonal").sort(time)
    last_close = pl.col("close").forward_fill()
    values = [
        pl.col(column.name).fill_null(0 if column.aggregate is Aggregate.SUM else last_close)
        for column in kind.columns
        if column.aggregate and not column.may_be_null
    ]
    close_time = grid.next(pl.col(time)) - pl.duration(milliseconds=1)
    return candles.with_columns(*values, pl.col("close_time").fill_null(close_time)).select(
        marked.columns
    )


def _missing_opens(
    kind: Kind, rows: pl.DataFrame, grid: CandleGrid, held: Sequence[Span]
) -> pl.Series:
    """Return the open times, ms UTC, in `held` after the first row that have no row."""
    opens = [grid.opens(span) for span in held]
    if not opens or not rows.height:
        return pl.Series(dtype=pl.Int64)
    present = rows.select(grid.floor(pl.col(kind.time_column)).dt.timestamp("ms")).to_series()
    expected = pl.concat(opens)
    return expected.filter((expected > int(present[0])) & ~expected.is_in(present.implode()))


def _whole_candles(grid: CandleGrid, held: Span, trading_span: Span | None) -> Span:
    """Return the part of `held` that consists of whole candles of the grid."""
    start_ms, end_ms = grid.ceil_ms(held.start_ms), grid.floor_ms(held.end_ms)
    if trading_span and held.start_ms <= trading_span.start_ms:
        start_ms = grid.floor_ms(held.start_ms)
    if trading_span and held.end_ms >= trading_span.end_ms:
        end_ms = grid.ceil_ms(held.end_ms)
    return Span(start_ms, max(start_ms, end_ms))

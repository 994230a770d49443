"""Runs a ReadPlan: as a source of batches for Polars, as one frame, or as single candles."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import polars as pl

from klinefleet.workers.domain.intervals import months_of
from klinefleet.workers.domain.schema import Candle
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.reader.lookup import SeriesPlan
from klinefleet.workers.reader.partition_reader import PartitionReader
from klinefleet.workers.reader.query import SYMBOL, ReadPlan, RowQuery
from klinefleet.workers.support.threads import run_in_order

#: Batches that are being read, or wait to be used.
_BATCHES_AHEAD = 4
_CANDLE_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")

#: What Polars calls for a source's frames: columns, predicate, number of rows, batch size.
BatchSource = Callable[
    [list[str] | None, pl.Expr | None, int | None, int | None], Iterator[pl.DataFrame]
]


class PlanExecutor:
    """Reads the rows of plans. `trading_span` returns a series' trading span, None if unknown."""

    def __init__(
        self, partitions: PartitionReader, trading_span: Callable[[Series], Span | None]
    ) -> None:
        self._partitions = partitions
        self._trading_span = trading_span

    def batch_source(self, plan: ReadPlan, columns: list[str]) -> BatchSource:
        """Return the function from which Polars gets the rows; it reads only what a query needs."""

        def batches(
            needed: list[str] | None,
            predicate: pl.Expr | None,
            max_rows: int | None,
            _batch_size: int | None,
        ) -> Iterator[pl.DataFrame]:
            needed = columns if needed is None else needed
            takes_all_rows = predicate is None and max_rows is None
            columns_of_all_rows = [name for name in needed if name != SYMBOL and takes_all_rows]
            jobs = (
                functools.partial(
                    self._partitions.query,
                    batch,
                    RowQuery(symbol, needed, predicate, max_rows),
                    columns_of_all_rows,
                )
                for series_plan in plan.series_plans
                for symbol in [series_plan.series.symbol if plan.query.has_symbol_column else None]
                for batch in series_plan.partitions.batches()
            )
            # If only the first rows are needed, the next batch may not be.
            for rows in run_in_order(jobs, _BATCHES_AHEAD if max_rows is None else 1):
                if max_rows is None:
                    yield rows
                    continue
                yield rows.head(max_rows)
                max_rows -= rows.height
                if max_rows <= 0:
                    return

        return batches

    def rows(
        self, plan: ReadPlan, series_plans: Sequence[SeriesPlan], columns: Sequence[str]
    ) -> pl.DataFrame:
        """Return these columns of the rows of some of the plan's series, reshaped."""
        query, reshaping = plan.query, plan.query.reshaping
        stored_columns = [name for name in columns if name != SYMBOL]
        # Reshaping needs all columns.
        needed = query.kind.names if reshaping.has_effect else stored_columns
        batches = [(p, batch) for p in series_plans for batch in p.partitions.batches()]
        jobs = (functools.partial(self._partitions.rows, batch, needed) for _, batch in batches)
        frames_read = zip(
            (series_plan for series_plan, _ in batches),
            run_in_order(jobs, _BATCHES_AHEAD),
            strict=True,
        )
        frames = []
        for symbol, group in itertools.groupby(frames_read, lambda read: read[0].series.symbol):
            reads = list(group)
            series_plan = reads[0][0]
            rows = pl.concat([frame for _, frame in reads], rechunk=False)
            if reshaping.has_effect:
                trading_span = self._trading_span(series_plan.series)
                rows = reshaping.apply(rows, series_plan.held, trading_span)
            if query.has_symbol_column:
                rows = rows.select(pl.lit(symbol).alias(SYMBOL), pl.all())
            frames.append(rows)
        return pl.concat(frames, rechunk=False).select(columns)

    def candles(self, plan: ReadPlan) -> Iterator[Candle]:
        """Yield the candles by time, then by the order of the symbols; a month in memory at a time.

        Reshaped candles are all in memory.
        """
        columns = [SYMBOL, *(name for name in _CANDLE_COLUMNS if name in plan.schema)]
        no_volume = [] if "volume" in columns else [0.0]
        ranks = {p.series.symbol: rank for rank, p in enumerate(plan.series_plans)}
        symbol_rank = pl.col(SYMBOL).replace_strict(ranks, return_dtype=pl.Int64)
        is_reshaped = plan.query.reshaping.has_effect
        portions = [plan.series_plans] if is_reshaped else _by_month(plan.series_plans)
        for series_plans in portions:
            rows = self.rows(plan, series_plans, columns)
            rows = rows.sort("open_time", symbol_rank, maintain_order=True)
            for symbol, open_time, *values in rows.iter_rows():
                yield Candle(symbol, open_time, *values, *no_volume)


def _by_month(series_plans: Sequence[SeriesPlan]) -> Iterator[list[SeriesPlan]]:
    """Yield the plans cut to one month after the other, so that one at a time is in memory."""
    start_ms = min(plan.span.start_ms for plan in series_plans)
    end_ms = max(plan.span.end_ms for plan in series_plans)
    for _, month in months_of(Span(start_ms, end_ms)):
        yield [replace(plan, partitions=plan.partitions.clip(month)) for plan in series_plans]

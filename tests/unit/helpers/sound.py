"""Rows that nothing is wrong with, and partitions of them whose proof fits whatever they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import polars as pl

from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.premium_index_klines import PREMIUM_INDEX_KLINES
from klinefleet.workers.domain.schema import schema_of
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.footers.proof import prove
from klinefleet.workers.lake.partition_codec import encode
from tests.answers import footer_of
from tests.unit.helpers.klines import MINUTES

FUNDING_HOURS = 8


def rows_at(series: Series, times: Sequence[int]) -> pl.DataFrame:
    """Sound rows of a series that open at these times, ms; no two are alike."""
    at = pl.DataFrame({"ms": times}, schema={"ms": pl.Int64}).with_row_index("n")
    moment, number = (
        pl.col("ms").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"),
        pl.col("n").cast(pl.Float64),
    )
    if series.kind is FUNDING_RATE:
        told = at.select(
            calc_time=moment,
            funding_interval_hours=pl.lit(FUNDING_HOURS, pl.Int64),
            last_funding_rate=0.0001 + number / 1e6,
            mark_price=pl.lit(None, pl.Float64),
        )
        return told.cast(dict(schema_of(FUNDING_RATE)))  # type: ignore[arg-type]
    step = timedelta(milliseconds=series.interval.step_ms - 1)
    low = (-0.001 if series.kind is PREMIUM_INDEX_KLINES else 100.0) + number / 1e6
    told = at.select(
        open_time=moment,
        open=low + 0.25,
        high=low + 1.0,
        low=low,
        close=low + 0.75,
        volume=number + 3.0,
        close_time=moment + step,
        quote_volume=(number + 3.0) * 100,
        count=pl.col("n").cast(pl.Int64) + 1,
        taker_buy_volume=number + 1.0,
        taker_buy_quote_volume=(number + 1.0) * 100,
    )
    return told.select(schema_of(series.kind).names()).cast(dict(schema_of(series.kind)))  # type: ignore[arg-type]


def partition(rows: pl.DataFrame, covered: Sequence[Span], series: Series = MINUTES) -> bytes:
    """A partition of these rows, proved as they are."""
    return encode(rows, proved_footer(rows, covered, series))


def proved_footer(rows: pl.DataFrame, covered: Sequence[Span], series: Series = MINUTES) -> Footer:
    """The footer that compaction would write for these rows."""
    footer = footer_of(*covered)
    return replace(footer, proof=prove(series, rows, covered))

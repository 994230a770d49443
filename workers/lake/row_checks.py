"""The checks of a row's values: what `verify` calls faulty, and what no single source may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, reduce
from operator import or_

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Column, ColumnType, Kind
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake.faults import What

#: Volumes are decimals of up to eight places that the exchange adds up and rounds one by one: a
#: taker's share may exceed the whole by one unit of the last place, and large ones by what a double
#: cannot tell.
_LAST_PLACE, _DOUBLE = 1e-8, 1e-9

_PRICES = ("open", "high", "low", "close")

#: What tells that a row is faulty, before the names of the columns that show it.
Check = tuple[pl.Expr, tuple[str, ...]]


def row_span(series: Series, ms: int) -> Span:
    """Return the time that a row which opened at `ms` stands for: its candle's, of an event its
    minute.
    """
    if not series.interval.is_grid:
        return Span(ms - ms % MINUTE_MS, ms - ms % MINUTE_MS + MINUTE_MS)
    opened = series.interval.floor(ms)
    return Span(opened, series.interval.advance(opened, 1))


def with_times_in_ms(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with each of their moments once more in ms, as the checks read them: under
    its name after a `_`.
    """
    return rows.with_columns(
        pl.col(name).dt.timestamp("ms").alias(f"_{name}")
        for name, dtype in rows.schema.items()
        if dtype.is_temporal()
    )


def faulty_times(series: Series, rows: pl.DataFrame) -> dict[What, list[int]]:
    """Return the times (ms) of the rows with faulty values, by what is wrong with them."""
    if not rows.height:
        return {}
    tagged = with_times_in_ms(rows)
    wrong = tagged.filter(is_faulty(series, rows.schema))
    if not wrong.height:
        return {}
    times = f"_{series.kind.time_column}"
    return {
        what: found[times].to_list()
        for what, (check, _) in value_checks(series, rows.schema).items()
        if (found := wrong.filter(check.fill_null(False))).height
    }


def is_faulty(series: Series, held: pl.Schema) -> pl.Expr:
    """Return whether some value of a row is faulty; the rows have their times in ms."""
    return _is_faulty(series.kind, series.interval, tuple(held))


def value_checks(series: Series, held: pl.Schema) -> Mapping[What, Check]:
    """Return the checks of single rows by the fault that they find.

    `held` are the columns there are: older partitions may lack some of today's.
    """
    return _value_checks(series.kind, series.interval, tuple(held))


@lru_cache
def _is_faulty(kind: Kind, interval: Interval, held: tuple[str, ...]) -> pl.Expr:
    checks = _value_checks(kind, interval, held)
    return any_of(check.fill_null(False) for check, _ in checks.values())


@lru_cache
def _value_checks(kind: Kind, interval: Interval, held: tuple[str, ...]) -> Mapping[What, Check]:
    columns = [column for column in kind.columns if column.name in held]
    names = tuple(column.name for column in columns)
    is_missing = any_of(_is_missing(column) for column in columns)
    is_candle = {*_PRICES, "close_time"} <= set(names)
    of_values = _of_candles(interval) if is_candle else {}
    of_values |= _of_values(columns)
    return {What.MISSING: (is_missing, names[1:])} | {
        what: (~is_missing & check, shown) for what, (check, shown) in of_values.items()
    }


def _of_values(columns: Sequence[Column]) -> dict[What, Check]:
    """Return the checks that the columns declare."""
    checks: dict[What, Check] = {}
    names = {column.name for column in columns}
    prices = tuple(column.name for column in columns if column.is_price)
    bounded = [column for column in columns if column.minimum is not None]
    parts = [column for column in columns if column.part_of in names]
    if prices:
        checks[What.PRICE] = (pl.min_horizontal(*prices) <= 0, prices)
    is_below = any_of(pl.col(column.name) < column.minimum for column in bounded)
    if bounded:
        checks[What.NEGATIVE] = (is_below, tuple(column.name for column in bounded))
    if parts:
        is_over = any_of(_is_over(column.name, column.part_of) for column in parts)
        shown = {column.name for column in parts} | {column.part_of for column in parts}
        in_order = tuple(column.name for column in columns if column.name in shown)
        checks[What.TAKER] = (~is_below & is_over, in_order)
    return checks


def _of_candles(interval: Interval) -> dict[What, Check]:
    """Return the checks of a candle's prices against each other, and of its times."""
    names = ("high", "low", "_open_time", "_close_time")
    high, low, opened, closed = (pl.col(name) for name in names)
    is_month = interval is Interval.MO1
    next_month = pl.col("open_time").dt.offset_by("1mo").dt.timestamp("ms")
    next_open = next_month if is_month else opened + interval.step_ms
    is_low, is_high = high < pl.max_horizontal(*_PRICES), low > pl.min_horizontal(*_PRICES)
    return {
        What.OHLC: (is_low | is_high, _PRICES),
        What.CLOSE: ((closed < opened) | (closed >= next_open), ("close_time",)),
    }


def _is_missing(column: Column) -> pl.Expr:
    """Return whether a value is missing; a column that may be null may not be NaN either."""
    value = pl.col(column.name)
    is_null = pl.lit(False) if column.may_be_null else value.is_null()
    is_float = column.type is ColumnType.FLOAT
    return is_null | ~value.is_finite().fill_null(True) if is_float else is_null


def _is_over(part: str, whole: str) -> pl.Expr:
    return pl.col(part) > pl.col(whole) * (1 + _DOUBLE) + _LAST_PLACE


def any_of(checks: Iterable[pl.Expr]) -> pl.Expr:
    """Return whether any of the checks holds."""
    return reduce(or_, checks, pl.lit(False))


def is_within(ms: pl.Expr, parts: Iterable[Span]) -> pl.Expr:
    """Return whether each of some moments, ms, is in one of the parts."""
    joined = spans.union(parts)
    if not joined:
        return pl.lit(False)
    starts = pl.Series([part.start_ms for part in joined], dtype=pl.Int64)
    ends = pl.Series([part.end_ms for part in joined], dtype=pl.Int64)

    def look_up(times: pl.Series) -> pl.Series:
        after = starts.search_sorted(times, side="right").cast(pl.Int64)
        return (after > 0) & (times < ends.gather((after - 1).clip(0)))

    return ms.map_batches(look_up, return_dtype=pl.Boolean)

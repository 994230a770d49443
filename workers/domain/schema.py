"""The lake's columns as Polars has them, and the candle that back-testers take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import polars as pl

from klinefleet.workers.domain.kinds.declaration import Column, ColumnType, Kind


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

_TYPES = {
    ColumnType.TIME: MOMENT,
    ColumnType.FLOAT: pl.Float64(),
    ColumnType.INT: pl.Int64(),
    ColumnType.TEXT: pl.String(),
}


@cache
def schema_of(kind: Kind) -> pl.Schema:
    """Return the columns and types of a partition of this kind."""
    return pl.Schema({column.name: _TYPES[column.type] for column in kind.columns})


def wire_schema(columns: Iterable[Column]) -> pl.Schema:
    """Return the schema of these columns as sources send them: moments are whole numbers."""
    return pl.Schema(
        {
            column.name: pl.Int64() if column.type is ColumnType.TIME else _TYPES[column.type]
            for column in columns
        }
    )


def no_rows(kind: Kind) -> pl.DataFrame:
    """Return an empty frame with the columns of the kind."""
    return schema_of(kind).to_frame()


def is_older(kind: Kind, schema: pl.Schema) -> bool:
    """Return True if a partition with these columns was written before the kind had all of today's.

    It has the time, no column that is unknown, and each with its type, in their order.
    """
    today = schema_of(kind)
    kept = [(name, dtype) for name, dtype in today.items() if name in schema]
    is_part = list(schema.items()) == kept and kind.time_column in schema
    return is_part and len(kept) < len(today)


def with_all_columns(kind: Kind, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of an older partition with today's columns: those it lacks are null."""
    schema = schema_of(kind)
    lacking = [
        pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in rows.schema
    ]
    return rows.with_columns(lacking).select(schema.names()) if lacking else rows

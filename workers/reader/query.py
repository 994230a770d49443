"""What a reader is asked for: checked before anything is looked up, and planned before anything is
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.parsing import (
    Moment,
    parse_interval,
    parse_kind,
    parse_market,
    parse_timestamp,
)
from klinefleet.workers.domain.schema import schema_of
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.symbols import checked_symbol
from klinefleet.workers.reader.lookup import Part, RequestedRange
from klinefleet.workers.reader.resample import Shape

SYMBOL = "symbol"


@dataclass(frozen=True, slots=True)
class Query:
    """Series of one kind and interval, the time that is wanted of them, and how their rows are
    shaped.
    """

    series: tuple[Series, ...]
    wanted: RequestedRange
    shape: Shape
    is_list: bool
    """Whether a list of symbols was given: then each row names its own."""

    @classmethod
    def parse(
        cls,
        market: str,
        symbols: str | Sequence[str],
        interval: str | None,
        start: Moment | None,
        end: Moment | None,
        *,
        kind: str,
        now_ms: int,
        resample: str | None = None,
        fill: str | None = None,
    ) -> Query:
        """Return what a reader's arguments ask for; RequestError names the one that makes no sense."""
        of_market = parse_market(market)
        of_kind = parse_kind(of_market, kind)
        step = parse_interval(of_market, of_kind, interval)
        names = dict.fromkeys(
            checked_symbol(one) for one in ([symbols] if isinstance(symbols, str) else symbols)
        )
        if not names:
            raise RequestError("no symbol was given; nothing was read")
        shape = Shape.of(of_kind, step, resample, fill)
        start_ms = shape.ceil(None if start is None else parse_timestamp("start", start))
        end_ms = shape.ceil(None if end is None else parse_timestamp("end", end))
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            raise RequestError(
                f"no {step} candle opens between {start} and {end}; nothing was read"
            )
        return cls(
            tuple(Series(of_market, of_kind, step, name) for name in names),
            RequestedRange(start_ms, end_ms, step.floor(now_ms)),
            shape,
            not isinstance(symbols, str),
        )

    @property
    def kind(self) -> Kind:
        return self.series[0].kind


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A query, and what the lake holds of each of its series."""

    query: Query
    parts: tuple[Part, ...]

    @property
    def schema(self) -> pl.Schema:
        """The columns of the rows before they are shaped: with `symbol` first if a list of symbols
        was given.
        """
        symbol = {SYMBOL: pl.String()} if self.query.is_list else {}
        return pl.Schema({**symbol, **schema_of(self.query.kind)})


@dataclass(frozen=True, slots=True)
class RowQuery:
    """What Polars needs of one series' rows; `symbol` if they have to name it."""

    symbol: str | None
    columns: list[str]
    predicate: pl.Expr | None
    most: int | None

    def __call__(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        if self.symbol is not None:
            rows = rows.with_columns(pl.lit(self.symbol).alias(SYMBOL))
        rows = rows if self.predicate is None else rows.filter(self.predicate)
        rows = rows.select(self.columns)
        return rows if self.most is None else rows.head(self.most)


def checked_columns(columns: Sequence[str], schema: pl.Schema) -> list[str]:
    """Return the columns; RequestError if one is not in the schema."""
    for name in columns:
        if name not in schema:
            raise RequestError(
                f"no column {name!r}; there are {', '.join(schema)}; nothing was read"
            )
    return list(columns)

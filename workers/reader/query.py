"""A reader's query, checked before anything is looked up, and the plan by which it is read."""

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
from klinefleet.workers.reader.lookup import RequestedRange, SeriesPlan
from klinefleet.workers.reader.resample import Reshaping

SYMBOL = "symbol"


@dataclass(frozen=True, slots=True)
class Query:
    """Series of one kind and interval, the requested range, and how their rows are reshaped."""

    series: tuple[Series, ...]
    requested: RequestedRange
    reshaping: Reshaping
    has_symbol_column: bool
    """Whether each row names its symbol: if a list of symbols was given."""

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
        """Return the query of a reader's arguments; RequestError names an invalid argument."""
        parsed_market = parse_market(market)
        parsed_kind = parse_kind(parsed_market, kind)
        parsed_interval = parse_interval(parsed_market, parsed_kind, interval)
        symbol_list = [symbols] if isinstance(symbols, str) else symbols
        unique_symbols = dict.fromkeys(checked_symbol(symbol) for symbol in symbol_list)
        if not unique_symbols:
            raise RequestError("no symbols given; nothing was read")
        reshaping = Reshaping.parse(parsed_kind, parsed_interval, resample, fill)
        start_ms = reshaping.ceil(None if start is None else parse_timestamp("start", start))
        end_ms = reshaping.ceil(None if end is None else parse_timestamp("end", end))
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            raise RequestError(
                f"no {resample or parsed_interval} candle opens between {start} and {end}; "
                "nothing was read"
            )
        return cls(
            tuple(
                Series(parsed_market, parsed_kind, parsed_interval, symbol)
                for symbol in unique_symbols
            ),
            RequestedRange(start_ms, end_ms, parsed_interval.floor(now_ms)),
            reshaping,
            has_symbol_column=not isinstance(symbols, str),
        )

    @property
    def kind(self) -> Kind:
        return self.series[0].kind


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A query, and what the lake holds of each of its series."""

    query: Query
    series_plans: tuple[SeriesPlan, ...]

    @property
    def schema(self) -> pl.Schema:
        """The columns before reshaping: `symbol`, if the rows have it, then those of the kind."""
        symbol = {SYMBOL: pl.String()} if self.query.has_symbol_column else {}
        return pl.Schema({**symbol, **schema_of(self.query.kind)})


@dataclass(frozen=True, slots=True)
class RowQuery:
    """What Polars asks for of one series' rows: a filter, columns and a number of rows."""

    symbol: str | None
    """The value of the column `symbol`; None if the rows have no such column."""
    columns: list[str]
    predicate: pl.Expr | None
    max_rows: int | None

    def __call__(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        if self.symbol is not None:
            rows = rows.with_columns(pl.lit(self.symbol).alias(SYMBOL))
        rows = rows if self.predicate is None else rows.filter(self.predicate)
        rows = rows.select(self.columns)
        return rows if self.max_rows is None else rows.head(self.max_rows)


def checked_columns(columns: Sequence[str], schema: pl.Schema) -> list[str]:
    """Return the columns; RequestError if the schema lacks one."""
    for name in columns:
        if name not in schema:
            raise RequestError(
                f"no column {name!r}; there are {', '.join(schema)}; nothing was read"
            )
    return list(columns)

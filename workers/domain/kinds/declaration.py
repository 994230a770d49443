"""What a kind of series declares: its columns, its REST endpoint, its archive files, its rules.

A declaration is data: the rooms that fetch, decode, merge, check and read rows look here, and name
no kind themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from klinefleet.workers.domain.intervals import Period
from klinefleet.workers.domain.markets import RULES, Market, Pool


class ColumnType(Enum):
    """The type of a column's values."""

    TIME = "time"
    """Milliseconds, UTC. Archive files may have microseconds."""
    FLOAT = "float"
    INT = "int"
    TEXT = "text"
    """Only on the wire, for a column that is not kept."""


class Aggregate(Enum):
    """How the values of several candles become the value of one coarser candle."""

    FIRST = "first"
    MAX = "max"
    MIN = "min"
    LAST = "last"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in the archive and in the lake, and what its values have to be."""

    name: str
    type: ColumnType = ColumnType.FLOAT
    rest_field: str = ""
    """Its field in REST's objects; empty where REST sends arrays, or does not have it."""
    may_be_null: bool = False
    """Not every source has it: a value fills an empty one, and sources do not conflict on it."""
    is_added: bool = False
    """Partitions of an earlier version lack it: there it is null. Then `may_be_null` is set too."""
    aggregate: Aggregate | None = None
    """How candles are made coarser; None: it is no part of a candle."""
    is_price: bool = False
    """It is above zero."""
    minimum: int | None = None
    """It is never less."""
    part_of: str = ""
    """The column that it never exceeds."""


class RestRows(Enum):
    """The shape of REST's rows."""

    ARRAYS = "arrays"
    """Arrays of values, in the order of the archive's columns."""
    OBJECTS = "objects"
    """Objects with a `symbol`, and a field for each column that REST has."""


class FirstRow(Enum):
    """How the oldest row of a series is found by REST."""

    EXACT = "exact"
    """A call with startTime=0 and limit=1 returns it, where the market allows such a span."""
    BY_DAY = "by_day"
    """Daily candles are asked for; the answer is the start of the first day that has one."""
    OF_KLINES = "of_klines"
    """It is as old as the symbol's first kline."""


@dataclass(frozen=True, slots=True)
class PageRule:
    """The calls of a kind whose rows no calendar counts."""

    limit: int
    """Rows of a call, at most."""
    expected: int
    """Rows that a call is cut for. A page that comes back full is asked for again in halves."""
    weight: int


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of series. Two of one name are equal, and sort by it; `str` returns it."""

    name: str
    """The archive's name of it, and the lake's."""
    summary: str
    """What it is, in a few words, for --help."""
    columns: tuple[Column, ...]
    """The lake's columns, the time first."""
    rest_path: str
    """Its endpoint below the market's path."""
    archive_columns: tuple[Column, ...]
    """The columns of an archive file's lines, in their order."""
    markets: frozenset[Market] = frozenset(Market)
    """The markets that have it."""
    rest_rows: RestRows = RestRows.ARRAYS
    is_of_pair: bool = False
    """Its symbols are pairs: BTCUSDT, on COIN-M BTCUSD."""
    is_of_perpetuals: bool = False
    """Contracts that are delivered on a day do not have it."""
    has_interval: bool = True
    """Its rows are candles. Else they are events: no calendar says when there is one."""
    period: Period | None = None
    """The time of one partition; None: that of its interval."""
    has_daily_files: bool = True
    """The archive has a file a day beside the one a month."""
    pages: PageRule | None = None
    """How it is paged; None: by the market's rules for klines."""
    pools: Mapping[Market, Pool] = field(default_factory=dict)
    """The pool that its calls are counted in, where that is not the market's."""
    settle_ms: int = 10_000
    """A row is asked for only when it is so old; the exchange still corrects younger ones."""
    jitter_ms: int = 0
    """Two times of one event differ by less from source to source; 0: they do not differ."""
    first_row: FirstRow = FirstRow.BY_DAY
    is_dated_by_catalog: bool = False
    """The catalog's first and last times are those of this kind."""

    def __post_init__(self) -> None:
        if wrong := [c.name for c in self.columns if c.is_added and not c.may_be_null]:
            raise ValueError(f"{self.name}: {', '.join(wrong)} is added, so it may be null")

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Kind({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kind) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __lt__(self, other: Kind) -> bool:
        return self.name < other.name

    @property
    def time_column(self) -> str:
        """The column that rows are sorted and told apart by."""
        return self.columns[0].name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the lake's columns, the time first."""
        return tuple(column.name for column in self.columns)

    @property
    def disputed(self) -> tuple[str, ...]:
        """The columns in which sources can disagree about a row."""
        return tuple(column.name for column in self.columns[1:] if not column.may_be_null)

    @property
    def is_complete_in_one_source(self) -> bool:
        """Whether each source has every column; else a row is put together from several."""
        return not any(column.may_be_null for column in self.columns)

    @property
    def has_added_columns(self) -> bool:
        """Whether partitions may lack a column that others have."""
        return any(column.is_added for column in self.columns)

    @property
    def symbol_parameter(self) -> str:
        """The name of REST's parameter for the symbol."""
        return "pair" if self.is_of_pair else "symbol"

    def pool(self, market: Market) -> Pool:
        """Return the pool whose weight its calls spend."""
        return self.pools.get(market, RULES[market].pool)

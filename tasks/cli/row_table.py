"""Rows on the screen: as many columns as fit its width, numbers aligned, times without the zeros
that all share.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
from rich.cells import cell_len

from klinefleet.tasks.cli.row_writer import parts_of
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, SECOND_MS

#: Rows shown at each end where nobody says how many.
SHOWN = 5
#: Digits behind the point that are shown at most; the exchange's prices have eight.
_MOST_DECIMALS = 8
#: Columns left out that are named; more are counted.
_NAMED = 8
_APART, _GAP, _NOTHING = "…", "  ", "-"


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The first and the last rows of some, no row in both, and how many there are (None: not
    counted).
    """

    head: pl.DataFrame
    tail: pl.DataFrame
    rows: int | None


def glimpse(
    rows: pl.LazyFrame | Iterable[pl.DataFrame], head: int | None, tail: int | None
) -> Glimpse:
    """Return the ends of rows, lazy or in parts of which the first tells the columns.

    No others are kept; where only the first are asked for, no others are read.
    """
    if head is not None and tail is None and isinstance(rows, pl.LazyFrame):
        first = rows.head(head).collect()
        return Glimpse(first, first.clear(), None)
    if head is None and tail is None:
        head = tail = SHOWN
    head, tail = head or 0, tail or 0
    parts = iter(parts_of(rows) if isinstance(rows, pl.LazyFrame) else rows)
    first = last = next(parts)
    count = first.height
    for part in parts:
        count += part.height
        first = pl.concat([first, part.head(head)]).head(head)
        last = pl.concat([last, part.tail(tail)]).tail(tail)
    return Glimpse(first, last.tail(max(0, min(tail, count - first.height))), count)


def text(seen: Glimpse, width: int) -> str:
    """Return a table of at most `width` characters a line, and below it what it does not show."""
    shown = pl.concat([seen.head, seen.tail])
    if shown.columns == ["explain_key", "explain_value"]:
        return "\n".join(shown["explain_value"])
    is_apart = seen.rows is not None and 0 < seen.head.height < shown.height < seen.rows
    apart = seen.head.height if is_apart else None
    columns = [Column(name, _cells(shown[name]), shown[name].dtype) for name in shown.columns]
    lines, left_out = _lines(columns, width, apart)
    counted = (
        f"the first {shown.height:,} rows"
        if seen.rows is None
        else f"{seen.rows:,} row{'s' if seen.rows != 1 else ''}"
    )
    return "\n".join([*lines, *textwrap.wrap(counted + _left_out(left_out), width)])


def description(rows: pl.LazyFrame, width: int) -> str:
    """Return a table of how many values each column has and lacks, the least, the mean and the
    greatest.
    """
    schema, each = rows.collect_schema(), pl.all()
    asked = {
        "values": each.count(),
        "missing": each.null_count(),
        "least": each.min(),
        "greatest": each.max(),
    }
    means = pl.selectors.numeric().mean().name.prefix("mean ")
    told = rows.select(
        means, *(one.name.prefix(f"{name} ") for name, one in asked.items())
    ).collect(engine="streaming")
    columns = [Column("", ["values", "missing", "least", "mean", "greatest"], pl.String())]
    for name, dtype in schema.items():
        numbers = [f"{told[f'{what} {name}'].item():,}" for what in ("values", "missing")]
        ends = pl.concat([told[f"least {name}"], told[f"greatest {name}"].alias(f"least {name}")])
        least, greatest = _cells(ends)
        mean = (
            _decimal(round(told[f"mean {name}"].item(), 8))
            if dtype.is_numeric() and ends.null_count() == 0
            else _NOTHING
        )
        columns.append(Column(name, [*numbers, least, mean, greatest], pl.Int64()))
    lines, left_out = _lines(columns, width, None)
    return "\n".join([*lines, *textwrap.wrap(f"{len(schema)} columns{_left_out(left_out)}", width)])


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it is shown."""

    name: str
    cells: list[str]
    dtype: pl.DataType

    @property
    def width(self) -> int:
        return max(cell_len(cell) for cell in (self.name, *self.cells))

    def padded(self, cell: str) -> str:
        """Return the cell in the column's width: numbers to the right, all else to the left."""
        room = " " * (self.width - cell_len(cell))
        return room + cell if self.dtype.is_numeric() else cell + room


def _lines(columns: list[Column], width: int, apart: int | None) -> tuple[list[str], list[str]]:
    """Return the lines of the columns that fit, and the names of the others; `apart` rows stand
    above a mark.
    """
    fitting, used = columns[:1], columns[0].width
    for column in columns[1:]:
        used += len(_GAP) + column.width
        if used > width:
            break
        fitting.append(column)
    rows = [
        [column.name for column in fitting],
        *zip(*(column.cells for column in fitting), strict=True),
    ]
    lines = [
        _GAP.join(column.padded(cell) for column, cell in zip(fitting, row, strict=True)).rstrip()
        for row in rows
    ]
    if apart is not None:
        lines.insert(1 + apart, _APART)
    return lines, [column.name for column in columns[len(fitting) :]]


def _left_out(names: list[str]) -> str:
    if not names:
        return ""
    told = ", ".join(names) if len(names) <= _NAMED else f"{len(names):,} columns more"
    return f"; not shown: {told}"


def _cells(values: pl.Series) -> list[str]:
    if isinstance(values.dtype, pl.Datetime):
        return _moments(values)
    if values.dtype.is_float():
        told = [_decimal(value) for value in values]
        decimals = max((len(one.partition(".")[2]) for one in told if "e" not in one), default=0)
        return [_padded(one, decimals) for one in told]
    return [
        _NOTHING if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for value in values
    ]


def _decimal(value: float | None) -> str:
    """Return the number with as many decimals as it has, eight at most."""
    if value is None:
        return _NOTHING
    if value and not 10.0**-_MOST_DECIMALS <= abs(value) < 10.0**15:
        return f"{value:.6g}"
    return f"{value:.{_MOST_DECIMALS}f}".rstrip("0").rstrip(".")


def _padded(told: str, decimals: int) -> str:
    """Return the number with zeros so that points stand below each other."""
    if not decimals or not told.lstrip("-").replace(".", "").isdigit():
        return told
    whole, _, part = told.partition(".")
    return f"{whole}.{part:0<{decimals}}"


def _moments(values: pl.Series) -> list[str]:
    """Return moments as text, to the day, minute, second or millisecond that they need."""
    ms = values.dt.timestamp("ms").drop_nulls()
    day, minute = (bool((ms % unit == 0).all()) for unit in (DAY_MS, MINUTE_MS))
    second = bool((ms % SECOND_MS == 0).all())
    clock = "" if day else " %H:%M" if minute else " %H:%M:%S" if second else " %H:%M:%S%.3f"
    return [told or _NOTHING for told in values.dt.strftime(f"%Y-%m-%d{clock}")]

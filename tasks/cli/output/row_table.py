"""Rows as a table on the screen: as many columns as fit, numbers aligned by their decimal point."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from klinefleet.tasks.cli.output.row_writer import read_in_parts
from klinefleet.tasks.cli.output.text_table import TextColumn, fitting, table_lines
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, SECOND_MS

#: Rows shown at each end where neither --head nor --tail is given.
DEFAULT_ROWS = 5
#: Most decimals shown; the exchange's prices have up to eight.
_MAX_DECIMALS = 8
#: Left-out columns that are named; if there are more, they are counted.
_MAX_NAMED = 8
#: Stands between the first and the last rows, and for a missing value.
_ELLIPSIS, _NULL = "…", "-"


@dataclass(frozen=True, slots=True)
class Preview:
    """The first and the last rows of a table, no row in both."""

    head: pl.DataFrame
    tail: pl.DataFrame
    row_count: int | None
    """How many rows there are; None: not counted."""


def screen_width() -> int | None:
    """Return the terminal's width, or COLUMNS if set; None where stdout is a file or a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return None


def preview(
    rows: pl.LazyFrame | Iterable[pl.DataFrame], head: int | None, tail: int | None
) -> Preview:
    """Return the ends of lazy rows, or of parts whose first one has all columns.

    Only the ends are kept in memory. With `head` alone, nothing else is read from lazy rows.
    """
    if head is not None and tail is None and isinstance(rows, pl.LazyFrame):
        first = rows.head(head).collect()
        return Preview(first, first.clear(), None)
    if head is None and tail is None:
        head = tail = DEFAULT_ROWS
    head, tail = head or 0, tail or 0
    parts = iter(read_in_parts(rows) if isinstance(rows, pl.LazyFrame) else rows)
    first = last = next(parts)
    count = first.height
    for part in parts:
        count += part.height
        first = pl.concat([first, part.head(head)]).head(head)
        last = pl.concat([last, part.tail(tail)]).tail(tail)
    return Preview(first, last.tail(max(0, min(tail, count - first.height))), count)


def render_rows(shown: Preview, width: int | None) -> str:
    """Return the table, at most `width` wide, and below it the row count and what is left out."""
    rows = pl.concat([shown.head, shown.tail])
    if rows.columns == ["explain_key", "explain_value"]:
        return "\n".join(rows["explain_value"])
    columns = [
        TextColumn(name, _cells(rows[name]), rows[name].dtype.is_numeric()) for name in rows.columns
    ]
    has_gap = shown.row_count is not None and 0 < shown.head.height < rows.height < shown.row_count
    if shown.row_count is None:
        summary = f"the first {rows.height:,} rows"
    else:
        summary = f"{shown.row_count:,} row{'' if shown.row_count == 1 else 's'}"
    return _render(columns, width, summary, gap_after=shown.head.height if has_gap else None)


def render_description(rows: pl.LazyFrame, width: int | None) -> str:
    """Return a table with each column's count, nulls, minimum, mean and maximum."""
    schema, every = rows.collect_schema(), pl.all()
    aggregates = {
        "count": every.count(),
        "nulls": every.null_count(),
        "min": every.min(),
        "max": every.max(),
    }
    means = pl.selectors.numeric().mean().name.prefix("mean ")
    statistics = rows.select(
        means, *(aggregate.name.prefix(f"{name} ") for name, aggregate in aggregates.items())
    ).collect(engine="streaming")
    columns = [TextColumn("", ["count", "nulls", "min", "mean", "max"])]
    for name, dtype in schema.items():
        counts = [
            f"{statistics[f'{statistic} {name}'].item():,}" for statistic in ("count", "nulls")
        ]
        # In one series, so that both get the same decimals.
        ends = pl.concat(
            [statistics[f"min {name}"], statistics[f"max {name}"].alias(f"min {name}")]
        )
        minimum, maximum = _cells(ends)
        has_mean = dtype.is_numeric() and ends.null_count() == 0
        mean = _decimal(round(statistics[f"mean {name}"].item(), 8)) if has_mean else _NULL
        columns.append(TextColumn(name, [*counts, minimum, mean, maximum], is_number=True))
    return _render(columns, width, f"{len(schema)} columns")


def _render(
    columns: list[TextColumn], width: int | None, summary: str, gap_after: int | None = None
) -> str:
    """Return the columns that fit, and the summary with the names of those that do not.

    An ellipsis stands after `gap_after` rows.
    """
    shown = fitting(columns, width)
    lines = table_lines(shown)
    if gap_after is not None:
        lines.insert(1 + gap_after, _ELLIPSIS)
    left_out = [column.heading for column in columns[len(shown) :]]
    if left_out:
        is_short = len(left_out) <= _MAX_NAMED
        summary += f"; not shown: {', '.join(left_out) if is_short else f'{len(left_out)} columns'}"
    return "\n".join([*lines, *(textwrap.wrap(summary, width) if width else [summary])])


def _cells(values: pl.Series) -> list[str]:
    """Return the values as text, floats with the same number of decimals."""
    if isinstance(values.dtype, pl.Datetime):
        return _times(values)
    if values.dtype.is_float():
        texts = [_decimal(value) for value in values]
        decimals = max(
            (len(text.partition(".")[2]) for text in texts if "e" not in text), default=0
        )
        return [_with_decimals(text, decimals) for text in texts]
    return [
        _NULL if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for value in values
    ]


def _decimal(value: float | None) -> str:
    """Return the number with as many decimals as it has, eight at most."""
    if value is None:
        return _NULL
    if value and not 10.0**-_MAX_DECIMALS <= abs(value) < 10.0**15:
        return f"{value:.6g}"
    return f"{value:.{_MAX_DECIMALS}f}".rstrip("0").rstrip(".")


def _with_decimals(text: str, decimals: int) -> str:
    """Return the number with zeros appended, so that a column's decimal points are aligned."""
    if not decimals or not text.lstrip("-").replace(".", "").isdigit():
        return text
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction:0<{decimals}}"


def _times(values: pl.Series) -> list[str]:
    """Return times as text: date, minutes, seconds or milliseconds, as far as any value needs."""
    ms = values.dt.timestamp("ms").drop_nulls()
    day, minute, second = (
        bool((ms % unit_ms == 0).all()) for unit_ms in (DAY_MS, MINUTE_MS, SECOND_MS)
    )
    clock = "" if day else " %H:%M" if minute else " %H:%M:%S" if second else " %H:%M:%S%.3f"
    return [text or _NULL for text in values.dt.strftime(f"%Y-%m-%d{clock}")]

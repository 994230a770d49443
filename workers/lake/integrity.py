"""Checks one partition by its bytes alone: every fault with its name, its time and its rows.

What the exchange itself does is no fault: candles that open off their minute or close early, as
early as they open (spot, 2017 and 2018, around outages), and gaps that the proof lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Column, ColumnType
from klinefleet.workers.domain.schema import is_older, schema_of, with_all_columns
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS, NEVER_MS, iso
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import MAX_STRETCHES, SHOWN_ROWS, Fault, What
from klinefleet.workers.lake.footers.footer import Footer, parse_footer
from klinefleet.workers.lake.footers.proof import checksum, gaps_in
from klinefleet.workers.lake.partition_codec import decode

_MAGIC = b"PAR1"
#: Volumes are decimals of up to eight places that the exchange adds up and rounds one by one: a
#: taker's share may exceed the whole by one unit of the last place, and large ones by what a double
#: cannot tell.
_LAST_PLACE, _DOUBLE = 1e-8, 1e-9

_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Checked:
    """The faults of one partition, and its rows and footer as far as they can be read."""

    faults: list[Fault] = field(default_factory=list)
    rows: pl.DataFrame | None = None
    footer: Footer | None = None


def check(partition: Partition, body: bytes) -> Checked:
    """Return what is wrong with a partition of these bytes, and what they hold.

    Without a proof (an earlier version of the fleet wrote it) a lost row cannot be told from the
    exchange's own gap.
    """
    key, series = keys.partition(partition), partition.series
    columns = schema_of(series.kind)
    if not (body.startswith(_MAGIC) and body.endswith(_MAGIC)):
        return Checked(
            [
                Fault(
                    key,
                    What.DAMAGED,
                    None,
                    0,
                    f"no Parquet file: {len(body):,} bytes end in {body[-4:]!r}",
                )
            ]
        )
    try:
        footer = parse_footer(body, key)
    except PartitionDamaged as error:
        return Checked([Fault(key, What.FOOTER, None, 0, _line(key, error))])
    try:
        rows = decode(body, key)
    except PartitionDamaged as error:
        return Checked([Fault(key, What.DAMAGED, None, 0, _line(key, error))], None, footer)
    is_today = list(rows.schema.items()) == list(columns.items())
    if not is_today and not is_older(series.kind, rows.schema):
        return Checked(
            [Fault(key, What.SCHEMA, None, rows.height, _drift(rows.schema, columns))], None, footer
        )
    faults = [*_of_coverage(key, partition, footer), *_of_proof(key, rows, footer)]
    if faults and faults[-1].span is None:
        # None of the rows is to be trusted: what is wrong with them one by one is of no use.
        return Checked(faults, None, footer)
    faults += [*_of_rows(partition, rows, footer), *_gaps(series, key, rows, footer)]
    return Checked(faults, with_all_columns(series.kind, rows), footer)


def row_span(series: Series, ms: int) -> Span:
    """Return the time that a row which opened at `ms` stands for: its candle's, of an event its
    minute.
    """
    if not series.interval.is_grid:
        return Span(ms - ms % MINUTE_MS, ms - ms % MINUTE_MS + MINUTE_MS)
    opened = series.interval.floor(ms)
    return Span(opened, series.interval.advance(opened, 1))


def faults_of_rows(
    partition: Partition, what: What, times: list[int], values: Mapping[int, str]
) -> Iterator[Fault]:
    """Yield the faults of rows that opened at `times` (ms), one for each stretch of neighbours."""
    key = keys.partition(partition)
    stretches = spans.union(row_span(partition.series, at) for at in times)
    if len(stretches) > MAX_STRETCHES:
        stretches = [Span(stretches[0].start_ms, stretches[-1].end_ms)]
    for span in stretches:
        within = [at for at in times if span.start_ms <= at < span.end_ms]
        shown = [f"{iso(at)} {values[at]}" for at in within[:SHOWN_ROWS]]
        yield Fault(
            key,
            what,
            span,
            len(within),
            "; ".join([*shown, *(["…"] if len(within) > SHOWN_ROWS else [])]),
        )


def _of_coverage(key: str, partition: Partition, footer: Footer) -> Iterator[Fault]:
    bounds = partition.span
    for span in footer.covered:
        for outside in spans.gaps([bounds], span):
            yield Fault(
                key,
                What.COVERAGE,
                outside,
                0,
                f"{span} is said to be covered in the partition of {partition.period}",
            )


def _of_proof(key: str, rows: pl.DataFrame, footer: Footer) -> Iterator[Fault]:
    proof = footer.proof
    if proof is None:
        return
    if proof.rows != rows.height:
        yield Fault(
            key,
            What.ROWS,
            None,
            rows.height,
            f"{proof.rows:,} rows were proved, {rows.height:,} are held",
        )
    elif (found := checksum(rows)) != proof.checksum:
        detail = f"checksum {proof.checksum} was proved, {found} is that of the rows"
        yield Fault(key, What.CHECKSUM, None, rows.height, detail)


def _gaps(series: Series, key: str, rows: pl.DataFrame, footer: Footer) -> Iterator[Fault]:
    if footer.proof is None or footer.proof.gaps is None:
        return
    unknown = [
        left
        for span in spans.union(footer.covered)
        for gap in gaps_in(series, rows, span)
        for left in spans.gaps(footer.proof.gaps, gap)
    ]
    if len(unknown) > MAX_STRETCHES:
        unknown = [Span(unknown[0].start_ms, unknown[-1].end_ms)]
    for span in unknown:
        lost = series.interval.opens(span.start_ms, span.end_ms)
        yield Fault(
            key,
            What.GAP,
            span,
            lost,
            "covered, without a row, and no gap that the exchange was known to have",
        )


def _of_rows(partition: Partition, rows: pl.DataFrame, footer: Footer) -> Iterator[Fault]:
    """Yield the faults of rows. Only faulty rows are looked at one by one."""
    time = partition.series.kind.time_column
    tagged = rows.with_columns(
        pl.col(name).dt.timestamp("ms").alias(f"_{name}")
        for name, dtype in rows.schema.items()
        if dtype.is_temporal()
    ).with_columns(_ms=f"_{time}", _covered=_covered(rows[time], footer))
    checks = _checks(partition, rows.schema)
    found = tagged.select(
        *(check.fill_null(False).alias(what) for what, (check, _) in checks.items())
    )
    counts = found.select(pl.col(what).sum() for what in checks).row(0, named=True)
    for what, (_, columns) in checks.items():
        if not counts[what]:
            continue
        shown = [f"_{name}" if rows.schema[name].is_temporal() else name for name in columns]
        wrong = tagged.filter(found[what]).select("_ms", *shown)
        if not wrong["_ms"].is_between(0, NEVER_MS).fill_null(False).all():
            yield Fault(
                keys.partition(partition), what, None, wrong.height, f"a {time} that is none"
            )
            continue
        values = {
            at: ", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True))
            for at, *row in wrong.rows()
        }
        yield from faults_of_rows(partition, what, wrong["_ms"].to_list(), values)


#: Names of columns that show what is wrong with a row, after what tells that it is.
_Check = tuple[pl.Expr, tuple[str, ...]]


def _checks(partition: Partition, held: pl.Schema) -> dict[What, _Check]:
    """Return the checks of a partition's rows by the fault that they find.

    `held` are the partition's columns: an older one may lack some of today's.
    """
    kind, bounds = partition.series.kind, partition.span
    columns = [column for column in kind.columns if column.name in held]
    names = tuple(column.name for column in columns)
    at = pl.col("_ms")
    in_period = at.is_between(bounds.start_ms, bounds.end_ms, closed="left")
    is_missing = _any(_is_missing(column) for column in columns)
    is_repeated = ~(at // max(1, kind.jitter_ms)).is_first_distinct()
    checks: dict[What, _Check] = {
        What.MISSING: (is_missing, names[1:]),
        What.DUPLICATES: (is_repeated, names[1:3]),
        What.DISORDER: (at.diff() < 0, names[:1]),
        What.PERIOD: (~in_period, names[:1]),
        What.UNCOVERED: (in_period & ~pl.col("_covered"), names[:1]),
    }
    is_candle = {*_PRICES, "close_time"} <= set(names)
    of_values = _of_candles(partition.series.interval) if is_candle else {}
    of_values |= _of_values(columns)
    return checks | {
        what: (~is_missing & check, shown) for what, (check, shown) in of_values.items()
    }


def _of_values(columns: Sequence[Column]) -> dict[What, _Check]:
    """Return the checks that the columns declare."""
    checks: dict[What, _Check] = {}
    names = {column.name for column in columns}
    prices = tuple(column.name for column in columns if column.is_price)
    bounded = [column for column in columns if column.minimum is not None]
    parts = [column for column in columns if column.part_of in names]
    if prices:
        checks[What.PRICE] = (pl.min_horizontal(*prices) <= 0, prices)
    is_below = _any(pl.col(column.name) < column.minimum for column in bounded)
    if bounded:
        checks[What.NEGATIVE] = (is_below, tuple(column.name for column in bounded))
    if parts:
        is_over = _any(_is_over(column.name, column.part_of) for column in parts)
        shown = {column.name for column in parts} | {column.part_of for column in parts}
        in_order = tuple(column.name for column in columns if column.name in shown)
        checks[What.TAKER] = (~is_below & is_over, in_order)
    return checks


def _of_candles(interval: Interval) -> dict[What, _Check]:
    """Return the checks of a candle's prices against each other, and of its times."""
    high, low, opened, closed = (pl.col(name) for name in ("high", "low", "_ms", "_close_time"))
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


def _covered(times: pl.Series, footer: Footer) -> pl.Series:
    """Return a boolean for each row: whether its time is covered."""
    ms, covered = times.dt.timestamp("ms"), spans.union(footer.covered)
    if not covered:
        return pl.repeat(False, ms.len(), eager=True)
    starts, ends = (
        pl.Series([getattr(s, name) for s in covered], dtype=pl.Int64)
        for name in ("start_ms", "end_ms")
    )
    after = starts.search_sorted(ms, side="right").cast(pl.Int64)
    return (after > 0) & (ms < ends.gather((after - 1).clip(0)))


def _any(checks: Iterable[pl.Expr]) -> pl.Expr:
    return reduce(or_, checks, pl.lit(False))


def _drift(found: pl.Schema, wanted: pl.Schema) -> str:
    """Return in words how the columns of a partition differ from those of its kind."""
    missing = ", ".join(name for name in wanted if name not in found)
    extra = ", ".join(name for name in found if name not in wanted)
    types = [
        f"{name} is {found[name]}, not {dtype}"
        for name, dtype in wanted.items()
        if name in found and found[name] != dtype
    ]
    differences = [
        *([f"missing {missing}"] if missing else []),
        *([f"extra {extra}"] if extra else []),
        *types,
    ]
    return "; ".join(differences) or f"columns in another order: {', '.join(found)}"


def _line(key: str, error: Exception) -> str:
    return " ".join(str(error).removeprefix(f"{key}: ").split())

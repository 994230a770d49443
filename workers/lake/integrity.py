"""What can be wrong with one partition, told from its bytes alone: every fault by its name, its
time and its rows.

What the exchange itself does is no fault: candles that open off their minute or close early, as
early as they open (spot, 2017 and 2018, around outages), and minutes without a candle that the
partition's proof knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval, month_span
from klinefleet.workers.domain.schema import SCHEMAS, time_column
from klinefleet.workers.domain.series import Kind, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS, NEVER_MS, iso
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import MOST_RUNS, SHOWN_RUNS, Fault, What
from klinefleet.workers.lake.footer import Footer, footer_in
from klinefleet.workers.lake.partition_codec import decode
from klinefleet.workers.lake.proof import checksum, gaps_in

_MAGIC = b"PAR1"
#: Volumes are decimals of up to eight places that the exchange adds up and rounds one by one: a
#: taker's share may exceed the whole by one unit of the last place, and large ones by what a double
#: cannot tell.
_LAST_PLACE, _DOUBLE = 1e-8, 1e-9

_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one partition; without rows where they cannot be read."""

    faults: list[Fault] = field(default_factory=list)
    rows: pl.DataFrame | None = None
    footer: Footer | None = None


def check(series: Series, month: str, body: bytes) -> Checked:
    """Return what is wrong with a partition of these bytes, and what they hold.

    Without a proof (an earlier version of the fleet wrote it) a lost row cannot be told from the
    exchange's own gap.
    """
    key, columns = keys.partition(series, month), SCHEMAS[series.kind]
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
        footer = footer_in(body, key)
    except PartitionDamaged as error:
        return Checked([Fault(key, What.FOOTER, None, 0, _line(key, error))])
    try:
        rows = decode(body, key)
    except PartitionDamaged as error:
        return Checked([Fault(key, What.DAMAGED, None, 0, _line(key, error))], None, footer)
    if list(rows.schema.items()) != list(columns.items()):
        return Checked(
            [Fault(key, What.SCHEMA, None, rows.height, _drift(rows.schema, columns))], None, footer
        )
    faults = [*_of_coverage(key, month, footer), *_of_proof(key, rows, footer)]
    if faults and faults[-1].span is None:
        # None of the rows is to be trusted: what is wrong with them one by one is of no use.
        return Checked(faults, None, footer)
    faults += [*_of_rows(series, month, rows, footer), *_gaps(series, key, rows, footer)]
    return Checked(faults, rows, footer)


def row_span(series: Series, ms: int) -> Span:
    """Return the time that a row which opened at `ms` stands for: its candle's, of an event its
    minute.
    """
    if not series.interval.is_grid:
        return Span(ms - ms % MINUTE_MS, ms - ms % MINUTE_MS + MINUTE_MS)
    opened = series.interval.floor(ms)
    return Span(opened, series.interval.advance(opened, 1))


def faults_of_rows(
    series: Series, month: str, what: What, times: list[int], values: Mapping[int, str]
) -> Iterator[Fault]:
    """Yield the faults of rows that opened at `times` (ms), one for each stretch of neighbours."""
    key = keys.partition(series, month)
    stretches = spans.union(row_span(series, at) for at in times)
    if len(stretches) > MOST_RUNS:
        stretches = [Span(stretches[0].start_ms, stretches[-1].end_ms)]
    for span in stretches:
        within = [at for at in times if span.start_ms <= at < span.end_ms]
        shown = [f"{iso(at)} {values[at]}" for at in within[:SHOWN_RUNS]]
        yield Fault(
            key,
            what,
            span,
            len(within),
            "; ".join([*shown, *(["…"] if len(within) > SHOWN_RUNS else [])]),
        )


def _of_coverage(key: str, month: str, footer: Footer) -> Iterator[Fault]:
    bounds = month_span(month)
    for span in footer.covered:
        for outside in spans.gaps([bounds], span):
            yield Fault(
                key,
                What.COVERAGE,
                outside,
                0,
                f"{span} is said to be covered in the partition of {month}",
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
        told = f"checksum {proof.checksum} was proved, {found} is that of the rows"
        yield Fault(key, What.CHECKSUM, None, rows.height, told)


def _gaps(series: Series, key: str, rows: pl.DataFrame, footer: Footer) -> Iterator[Fault]:
    if footer.proof is None or footer.proof.gaps is None:
        return
    unknown = [
        left
        for span in spans.union(footer.covered)
        for gap in gaps_in(series, rows, span)
        for left in spans.gaps(footer.proof.gaps, gap)
    ]
    if len(unknown) > MOST_RUNS:
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


def _of_rows(series: Series, month: str, rows: pl.DataFrame, footer: Footer) -> Iterator[Fault]:
    """Yield what is wrong with rows; only those with a fault are looked at one by one."""
    time = time_column(series.kind)
    tagged = rows.with_columns(
        pl.col(name).dt.timestamp("ms").alias(f"_{name}")
        for name, dtype in rows.schema.items()
        if dtype.is_temporal()
    ).with_columns(_ms=f"_{time}", _covered=_covered(rows[time], footer))
    checks = _checks(series, month)
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
                keys.partition(series, month), what, None, wrong.height, f"a {time} that is none"
            )
            continue
        values = {
            at: ", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True))
            for at, *row in wrong.rows()
        }
        yield from faults_of_rows(series, month, what, wrong["_ms"].to_list(), values)


def _checks(series: Series, month: str) -> dict[What, tuple[pl.Expr, tuple[str, ...]]]:
    """Return for each fault of rows what tells it, and the columns that show it."""
    kind, bounds, time = series.kind, month_span(month), time_column(series.kind)
    at = pl.col("_ms")
    in_month = at.is_between(bounds.start_ms, bounds.end_ms, closed="left")
    is_missing = _any(_is_missing(kind, name) for name in SCHEMAS[kind])
    checks: dict[What, tuple[pl.Expr, tuple[str, ...]]] = {
        What.MISSING: (is_missing, tuple(SCHEMAS[kind].names()[1:])),
        What.DUPLICATES: (~_moment(kind).is_first_distinct(), tuple(SCHEMAS[kind].names()[1:3])),
        What.DISORDER: (at.diff() < 0, (time,)),
        What.MONTH: (~in_month, (time,)),
        What.UNCOVERED: (in_month & ~pl.col("_covered"), (time,)),
    }
    of_values = _of_funding() if kind is Kind.FUNDING else _of_candles(series, bounds)
    return checks | {
        what: (~is_missing & check, columns) for what, (check, columns) in of_values.items()
    }


def _moment(kind: Kind) -> pl.Expr:
    """Return what tells rows apart: their time, of an event its minute."""
    return pl.col("_ms") // MINUTE_MS if kind is Kind.FUNDING else pl.col("_ms")


def _of_candles(series: Series, bounds: Span) -> dict[What, tuple[pl.Expr, tuple[str, ...]]]:
    high, low, opened, closed = (pl.col(name) for name in ("high", "low", "_ms", "_close_time"))
    next_open = (
        pl.lit(bounds.end_ms)
        if series.interval is Interval.MO1
        else opened + series.interval.step_ms
    )
    is_low, is_high = high < pl.max_horizontal(*_PRICES), low > pl.min_horizontal(*_PRICES)
    checks = {
        What.OHLC: (is_low | is_high, _PRICES),
        What.CLOSE: ((closed < opened) | (closed >= next_open), ("close_time",)),
    }
    if series.kind is not Kind.PREMIUM:
        checks[What.PRICE] = (pl.min_horizontal(*_PRICES) <= 0, _PRICES)
    if series.kind is Kind.KLINES:
        is_negative = pl.min_horizontal(pl.col(_VOLUMES)) < 0
        is_over = _is_over("taker_buy_volume", "volume") | _is_over(
            "taker_buy_quote_volume", "quote_volume"
        )
        checks[What.NEGATIVE] = (is_negative, _VOLUMES)
        checks[What.TAKER] = (
            ~is_negative & is_over,
            tuple(name for name in _VOLUMES if name != "count"),
        )
    return checks


def _of_funding() -> dict[What, tuple[pl.Expr, tuple[str, ...]]]:
    return {
        What.PRICE: (pl.col("mark_price") <= 0, ("mark_price",)),
        What.NEGATIVE: (pl.col("funding_interval_hours") <= 0, ("funding_interval_hours",)),
    }


def _is_missing(kind: Kind, name: str) -> pl.Expr:
    """Whether a value is none; of a funding event each source leaves open what only the other
    tells.
    """
    column, is_open = (
        pl.col(name),
        kind is Kind.FUNDING and name in ("mark_price", "funding_interval_hours"),
    )
    is_null = pl.lit(False) if is_open else column.is_null()
    return (
        is_null | ~column.is_finite().fill_null(True) if SCHEMAS[kind][name].is_float() else is_null
    )


def _is_over(part: str, whole: str) -> pl.Expr:
    return pl.col(part) > pl.col(whole) * (1 + _DOUBLE) + _LAST_PLACE


def _covered(times: pl.Series, footer: Footer) -> pl.Series:
    """Return for each row whether its time is covered."""
    ms, covered = times.dt.timestamp("ms"), spans.union(footer.covered)
    if not covered:
        return pl.repeat(False, ms.len(), eager=True)
    starts, ends = (
        pl.Series([getattr(s, name) for s in covered], dtype=pl.Int64)
        for name in ("start_ms", "end_ms")
    )
    after = starts.search_sorted(ms, side="right").cast(pl.Int64)
    return (after > 0) & (ms < ends.gather((after - 1).clip(0)))


def _any(checks: Iterator[pl.Expr]) -> pl.Expr:
    return reduce(or_, checks)


def _drift(found: pl.Schema, wanted: pl.Schema) -> str:
    missing, extra = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    types = [
        f"{n} is {found[n]}, not {wanted[n]}"
        for n in wanted
        if n in found and found[n] != wanted[n]
    ]
    told = [
        f"missing {', '.join(missing)}" if missing else "",
        f"extra {', '.join(extra)}" if extra else "",
        *types,
    ]
    return (
        "; ".join(part for part in told if part) or f"columns in another order: {', '.join(found)}"
    )


def _line(key: str, error: Exception) -> str:
    return " ".join(str(error).removeprefix(f"{key}: ").split())

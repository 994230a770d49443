"""Checks one partition by its bytes alone: every fault with its name, its time and its rows.

What the exchange itself does is no fault: candles that open off their minute or close early, as
early as they open (spot, 2017 and 2018, around outages), gaps that the proof lists, and odd values
that every source has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.schema import is_older, schema_of, with_all_columns
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS, iso
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import MAX_STRETCHES, SHOWN_ROWS, Fault, What
from klinefleet.workers.lake.footers.footer import Footer, parse_footer
from klinefleet.workers.lake.footers.proof import checksum, gaps_in
from klinefleet.workers.lake.partition_codec import decode
from klinefleet.workers.lake.row_checks import (
    Check,
    is_within,
    row_span,
    value_checks,
    with_times_in_ms,
)

_MAGIC = b"PAR1"


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
    tagged = with_times_in_ms(rows)
    tagged = tagged.with_columns(_covered=is_within(pl.col(f"_{time}"), footer.covered))
    checks = _checks(partition, footer, rows.schema)
    found = tagged.select(
        *(check.fill_null(False).alias(what) for what, (check, _) in checks.items())
    )
    counts = found.select(pl.col(what).sum() for what in checks).row(0, named=True)
    for what, (_, columns) in checks.items():
        if not counts[what]:
            continue
        shown = [f"_{name}" if rows.schema[name].is_temporal() else name for name in columns]
        wrong = tagged.filter(found[what]).select(pl.col(f"_{time}").alias("_at"), *shown)
        if not wrong["_at"].is_between(0, NEVER_MS).fill_null(False).all():
            yield Fault(
                keys.partition(partition), what, None, wrong.height, f"a {time} that is none"
            )
            continue
        values = {
            at: ", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True))
            for at, *row in wrong.rows()
        }
        yield from faults_of_rows(partition, what, wrong["_at"].to_list(), values)


def _checks(partition: Partition, footer: Footer, held: pl.Schema) -> dict[What, Check]:
    """Return the checks of a partition's rows by the fault that they find.

    `held` are the partition's columns: an older one may lack some of today's. A faulty value that
    every source has, as the footer says, is no fault.
    """
    kind, bounds = partition.series.kind, partition.span
    names = tuple(column.name for column in kind.columns if column.name in held)
    at = pl.col(f"_{kind.time_column}")
    in_period = at.is_between(bounds.start_ms, bounds.end_ms, closed="left")
    is_repeated = ~(at // max(1, kind.jitter_ms)).is_first_distinct()
    of_places: dict[What, Check] = {
        What.DUPLICATES: (is_repeated, names[1:3]),
        What.DISORDER: (at.diff() < 0, names[:1]),
        What.PERIOD: (~in_period, names[:1]),
        What.UNCOVERED: (in_period & ~pl.col("_covered"), names[:1]),
    }
    odd: dict[str, list[Span]] = {}
    for oddity in footer.oddities:
        odd.setdefault(oddity.what, []).append(oddity.span)
    of_values = {
        what: (check & ~is_within(at, odd[what]) if what in odd else check, shown)
        for what, (check, shown) in value_checks(partition.series, held).items()
    }
    return of_places | of_values


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

"""What a partition's rows are proved by: how many there are, a checksum of their values, and the
exchange's own gaps.

Compaction writes it into the footer with the rows. Whoever reads the partition later can tell a
minute that the exchange never had from one that was lost since, and a value that was flipped on a
disk from the one that was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.schema import MOMENT
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.candle_grid import CandleGrid

#: Gaps that a footer tells; where there are more, whoever wants them has to look at the rows.
MAX_GAPS = 1_000

#: What stands for a value that is null: the bits of a NaN that no exchange sends.
_NULL_BITS = 0x7FF8_DEAD_BEEF_0001
_HALF = 1 << 32


@dataclass(frozen=True, slots=True)
class Proof:
    """What was true of a partition's rows when they were written."""

    rows: int
    checksum: str
    gaps: tuple[Span, ...] | None
    """The parts of the covered time in which the calendar has rows and the exchange had none; None:
    too many.
    """
    is_on_grid: bool = False
    """Whether each row opens just where the calendar says, so that covered time and gaps tell the
    times of all.
    """


def prove(series: Series, rows: pl.DataFrame, covered: Iterable[Span]) -> Proof:
    """Return the proof of a partition's rows and the time that they cover."""
    covered = list(covered)
    gaps = [gap for span in covered for gap in gaps_in(series, rows, span)]
    proof = Proof(rows.height, checksum(rows), tuple(gaps) if len(gaps) <= MAX_GAPS else None)
    told = reconstruct_times(series, covered, replace(proof, is_on_grid=True))
    return replace(
        proof, is_on_grid=told is not None and told.equals(rows[series.kind.time_column])
    )


def reconstruct_times(
    series: Series, covered: Iterable[Span], proof: Proof | None
) -> pl.Series | None:
    """Return the times of a partition's rows without looking at them; None where the proof does not
    tell.
    """
    if proof is None or proof.gaps is None or not proof.is_on_grid or not series.interval.is_grid:
        return None
    grid = CandleGrid.of(series.interval)
    opens = [grid.opens(part) for part in spans.without(covered, proof.gaps)]
    times = pl.concat(opens) if opens else pl.Series(dtype=pl.Int64)
    return times.cast(MOMENT).alias(series.kind.time_column) if times.len() == proof.rows else None


def checksum(rows: pl.DataFrame) -> str:
    """Return 16 hex digits that change with every bit of every value, and with the order of rows.

    For each column the 64 bits of its values, their upper half folded into the lower, each times an
    odd number that its row gives, are summed modulo 2**64: arithmetic that every version of every
    library does alike. Names and sums go through SHA-256. Unfolded, what changes high bits of two
    values alike (a sign each, or powers of two that change places) would cancel out: modulo 2**64
    little of the row's number is left up there.
    """
    odd = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    sums = rows.select((_bits(name, dtype) * odd).sum() for name, dtype in rows.schema.items())
    told = ",".join(
        f"{name}={value}" for name, value in zip(sums.columns, sums.row(0), strict=True)
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def gaps_in(series: Series, rows: pl.DataFrame, span: Span) -> list[Span]:
    """Return the parts of `span` in which the calendar has rows and there are none, oldest first.

    A row that opened off its minute stands for that minute. Events have no calendar, and so no
    gaps.
    """
    interval = series.interval
    if not interval.is_grid:
        return []
    times = rows[series.kind.time_column].dt.timestamp("ms")
    times = times.filter((times >= span.start_ms) & (times < span.end_ms))
    wanted = CandleGrid.of(interval).opens(span)
    if interval in (Interval.MO1, Interval.W1):
        had = times
    else:
        had = times - times % interval.step_ms
        if (
            had.n_unique() == wanted.len()
            and had.first() == wanted.first()
            and had.last() == wanted.last()
        ):
            return []
    is_gone = ~wanted.is_in(had.implode())
    runs = (
        pl.DataFrame({"at": wanted, "run": is_gone.rle_id()})
        .filter(is_gone)
        .group_by("run", maintain_order=True)
    )
    ends = (
        runs.agg(pl.first("at").alias("first"), pl.last("at").alias("last"))
        .select("first", "last")
        .iter_rows()
    )
    return spans.union(Span(first, interval.advance(last, 1)).clip(span) for first, last in ends)


def _bits(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name) if dtype == pl.Float64 else pl.col(name).to_physical()
    bits = column.reinterpret(dtype=pl.UInt64).fill_null(_NULL_BITS)
    return bits ^ (bits // _HALF)

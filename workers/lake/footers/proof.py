"""The proof of a partition's rows: their number, a checksum of their values, the exchange's gaps.

Compaction writes it into the footer with the rows. A later reader can then tell a minute that the
exchange never had from a lost one, and a flipped value from the one that was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.schema import MOMENT
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.candle_grid import CandleGrid

#: Gaps that a proof lists; if there are more, they have to be found in the rows.
MAX_GAPS = 1_000

#: Stands for null in the checksum: the bits of a NaN that no exchange sends.
_NULL_BITS = 0x7FF8_DEAD_BEEF_0001
_HALF = 1 << 32


@dataclass(frozen=True, slots=True)
class Proof:
    """What holds of a partition's rows, as they were written."""

    rows: int
    checksum: str
    gaps: tuple[Span, ...] | None
    """The parts of the covered time in which the exchange had no rows; None if too many."""
    is_on_grid: bool = False
    """Whether each row opens where the calendar says: covered time and gaps then give all times."""


def prove(
    series: Series,
    rows: pl.DataFrame,
    covered: Iterable[Span],
    gaps: Sequence[Span] | None = None,
) -> Proof:
    """Return the proof of a partition's rows, and of the time that they cover.

    `gaps` are the parts of that time without a row; None: they are found in the rows.
    """
    covered = list(covered)
    if gaps is None:
        gaps = [gap for span in covered for gap in gaps_in(series, rows, span)]
    proof = Proof(rows.height, checksum(rows), tuple(gaps) if len(gaps) <= MAX_GAPS else None)
    times = reconstruct_times(series, covered, replace(proof, is_on_grid=True))
    is_on_grid = times is not None and times.equals(rows[series.kind.time_column])
    return replace(proof, is_on_grid=is_on_grid)


def reconstruct_times(
    series: Series, covered: Iterable[Span], proof: Proof | None
) -> pl.Series | None:
    """Return the times of a partition's rows from its proof; None where it does not give them."""
    if proof is None or proof.gaps is None or not proof.is_on_grid or not series.interval.is_grid:
        return None
    grid = CandleGrid.of(series.interval)
    opens = [grid.opens(part) for part in spans.without(covered, proof.gaps)]
    times = pl.concat(opens) if opens else pl.Series(dtype=pl.Int64)
    return times.cast(MOMENT).alias(series.kind.time_column) if times.len() == proof.rows else None


def checksum(rows: pl.DataFrame) -> str:
    """Return 16 hex digits that change with every bit of every value, and with the order of rows.

    Of each column the 64 bits of its values are folded (the upper half into the lower), multiplied
    by an odd number that depends on the row, and summed modulo 2**64: every version of every
    library does this arithmetic alike. Names and sums go through SHA-256. Without the fold, equal
    changes to the high bits of two values (two signs, or powers of two that change places) would
    cancel out: modulo 2**64 little of the row's number is left up there.
    """
    odd = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    sums = rows.select((_bits(name, dtype) * odd).sum() for name, dtype in rows.schema.items())
    pairs = zip(sums.columns, sums.row(0), strict=True)
    text = ",".join(f"{name}={value}" for name, value in pairs)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gaps_in(series: Series, rows: pl.DataFrame, span: Span) -> list[Span]:
    """Return the parts of `span` in which the calendar has rows and there are none, oldest first.

    A row that opened off its minute stands for that minute. Events have no calendar: no gaps.
    """
    interval = series.interval
    if not interval.is_grid:
        return []
    times = rows[series.kind.time_column].dt.timestamp("ms")
    times = times.filter((times >= span.start_ms) & (times < span.end_ms))
    expected = CandleGrid.of(interval).opens(span)
    is_even = interval not in (Interval.MO1, Interval.W1)
    opened = times - times % interval.step_ms if is_even else times
    ends = (opened.first(), opened.last()) == (expected.first(), expected.last())
    if is_even and ends and opened.n_unique() == expected.len():
        return []
    is_missing = ~expected.is_in(opened.implode())
    stretches = (
        pl.DataFrame({"at": expected, "stretch": is_missing.rle_id()})
        .filter(is_missing)
        .group_by("stretch", maintain_order=True)
        .agg(pl.first("at").alias("first"), pl.last("at").alias("last"))
        .select("first", "last")
    )
    return spans.union(
        Span(first, interval.advance(last, 1)).clip(span) for first, last in stretches.iter_rows()
    )


def _bits(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name) if dtype == pl.Float64 else pl.col(name).to_physical()
    bits = column.reinterpret(dtype=pl.UInt64).fill_null(_NULL_BITS)
    return bits ^ (bits // _HALF)

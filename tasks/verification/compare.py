"""Compares a random sample of held rows with their source, value by value.

The sample is drawn in days, or in months where the archive has no daily files or a candle is long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from random import Random
from typing import TypeVar

import polars as pl

from klinefleet.workers.binance.archive_names import ArchiveFile, has_daily
from klinefleet.workers.binance.archive_zip import member
from klinefleet.workers.binance.decode import decode_archive, decode_pages
from klinefleet.workers.binance.page_check import inspect
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import (
    ArchiveFileUnusable,
    ChecksumMismatch,
    FleetError,
    OverWeight,
    Refused,
    Transient,
)
from klinefleet.workers.domain.intervals import months_of
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.paging import Page, pages
from klinefleet.workers.domain.series import Partition, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import Fault, What
from klinefleet.workers.lake.integrity import Checked, faults_of_rows
from klinefleet.workers.lake.partitions import moments_of
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import days_of
from klinefleet.workers.support.retry import VERIFICATION

T = TypeVar("T")
_SOURCE_SUFFIX = " of the source"


class Reference(StrEnum):
    """What held rows are compared with."""

    NONE = "nothing"
    ARCHIVE = "archive"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Sample:
    """Which share of the held time is compared, and with what. The seed decides which days."""

    reference: Reference = Reference.NONE
    share: float = 0.0
    seed: int = 0


NO_SAMPLE = Sample()


@dataclass(slots=True)
class Comparison:
    """What the comparison of one partition's sample found."""

    faults: list[Fault] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)
    """What could not be compared because the source does not have it: name → reason."""
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be compared because the source failed: name → reason."""
    rows: int = 0
    """Rows that were compared, those that differ included."""


def compare(
    services: Services,
    partition: Partition,
    checked: Checked,
    sample: Sample,
    *,
    at_least_one: bool,
) -> Comparison:
    """Compare a sample of a readable partition's covered time with the source.

    With `at_least_one` a day (or month) is compared however small the sample's share is.
    """
    comparison, series = Comparison(), partition.series
    if checked.rows is None or checked.footer is None:
        return comparison
    covered = spans.clip(checked.footer.covered, partition.span)
    for unit in draw_units(partition, covered, sample, at_least_one=at_least_one):
        parts, name = spans.clip(covered, unit), f"{series} {unit}"
        try:
            source_rows = _fetch_rows(services, series, unit, parts, sample.reference)
        except OverWeight:
            raise
        except (ArchiveFileUnusable, Refused) as error:
            comparison.not_compared[name] = error.reason
            continue
        except FleetError as error:
            comparison.failed[name] = error.reason
            continue
        held = _within(series.kind, checked.rows, parts)
        comparison.rows += max(held.height, source_rows.height)
        extra = held.join(source_rows, on="_moment", how="anti")
        # An archive file may lack rows, and REST may have forgotten the symbol: these rows are not
        # compared. But where REST has rows of this time, extra held rows are faults.
        if extra.height and (sample.reference is Reference.ARCHIVE or not source_rows.height):
            comparison.not_compared[name] = (
                f"{extra.height:,} held rows are missing from {sample.reference}"
            )
            held = held.join(extra, on="_moment", how="anti")
        comparison.faults += _differences(partition, held, source_rows, sample.reference)
    return comparison


def draw_units(
    partition: Partition, covered: list[Span], sample: Sample, *, at_least_one: bool
) -> list[Span]:
    """Return the sample's units of a partition, oldest first: days or months.

    The share of the covered units is rounded at random, so that small shares add up over many
    partitions. The draw depends on the seed and the partition alone.
    """
    series, bounds = partition.series, partition.span
    if _is_drawn_in_months(series):
        whole = [month.clip(bounds) for _, month in months_of(bounds)]
    else:
        whole = list(days_of(bounds))
    units = [unit for unit in whole if spans.clip(covered, unit)]
    random = Random(f"{sample.seed}|{keys.partition(partition)}")
    wanted = sample.share * len(units)
    count = int(wanted) + (random.random() < wanted % 1)
    return sorted(random.sample(units, min(len(units), max(count, int(at_least_one)))))


def _is_drawn_in_months(series: Series) -> bool:
    return series.interval.step_ms >= 4 * HOUR_MS or not has_daily(series)


def _fetch_rows(
    services: Services, series: Series, unit: Span, parts: list[Span], reference: Reference
) -> pl.DataFrame:
    """Return the source's rows in `parts` of a unit."""
    if reference is Reference.REST:
        calls = [page for part in parts for page in pages(series, part)]
        bodies = [
            _with_retries(services, partial(_fetch_page, services, series, page)) for page in calls
        ]
        rows = decode_pages(series.kind, bodies)
    else:
        source = Source.MONTHLY if _is_drawn_in_months(series) else Source.DAILY
        file = ArchiveFile.of(series, source, unit.start_ms)
        body = _with_retries(services, partial(services.archive.download, file)).body
        rows = decode_archive(series.kind, member(body, file.stem, max_bytes=file.max_csv_bytes))
    return _within(series.kind, rows, parts)


def _fetch_page(services: Services, series: Series, page: Page) -> bytes:
    answer = services.client(series.market).rows(series, page)
    inspect(answer.body, page, series, answer.server_ms)
    return answer.body


def _with_retries(services: Services, fetch: Callable[[], T]) -> T:
    def pause(seconds: float) -> None:
        services.stop.wait(seconds)

    def may_recover(error: BaseException) -> bool:
        return isinstance(error, Transient | ChecksumMismatch) and not isinstance(error, OverWeight)

    return VERIFICATION.retrying(may_recover, sleep=pause)(fetch)


def _within(kind: Kind, rows: pl.DataFrame, parts: list[Span]) -> pl.DataFrame:
    """Return the rows that open in `parts`, each once, identified by the column `_moment`."""
    times = pl.col(kind.time_column).dt.timestamp("ms")
    within = [times.is_between(part.start_ms, part.end_ms, closed="left") for part in parts]
    tagged = rows.with_columns(_moment=moments_of(kind, rows)).filter(pl.any_horizontal(within))
    return tagged.unique("_moment", keep="first", maintain_order=True)


def _differences(
    partition: Partition, held: pl.DataFrame, source_rows: pl.DataFrame, reference: Reference
) -> Iterator[Fault]:
    """Yield a fault for the rows that only one side has, and for those whose values differ."""
    series = partition.series
    time_column = series.kind.time_column
    details = _differing_values(series.kind, held, source_rows, reference)
    only_in_source = source_rows.join(held, on="_moment", how="anti")
    only_held = held.join(source_rows, on="_moment", how="anti")
    for rows, detail in (
        (only_in_source, f"not held, {reference} has it"),
        (only_held, f"held, {reference} does not have it"),
    ):
        details |= dict.fromkeys(rows[time_column].dt.timestamp("ms"), detail)
    yield from faults_of_rows(partition, What.DIFFERS, sorted(details), details)


def _differing_values(
    kind: Kind, held: pl.DataFrame, source_rows: pl.DataFrame, reference: Reference
) -> dict[int, str]:
    """Return both sides' values of the rows that differ, by open time in ms."""
    time_column, columns = kind.time_column, kind.disputed
    both = held.join(source_rows, on="_moment", suffix=_SOURCE_SUFFIX, maintain_order="left")
    is_equal = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(name + _SOURCE_SUFFIX)) for name in columns
    )
    differing = both.filter(~is_equal).with_columns(pl.col(time_column).dt.timestamp("ms"))
    details: dict[int, str] = {}
    for row in differing.iter_rows(named=True):
        pairs = [(name, row[name], row[name + _SOURCE_SUFFIX]) for name in columns]
        details[row[time_column]] = ", ".join(
            f"{name} {ours}, {reference} {theirs}" for name, ours, theirs in pairs if ours != theirs
        )
    return details

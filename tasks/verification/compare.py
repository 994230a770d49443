"""Held rows against their source, value by value: a random sample of days, or of months where a day
is too little.
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
from klinefleet.workers.domain.intervals import month_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.paging import Page, pages
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import Fault, What
from klinefleet.workers.lake.integrity import Checked, faults_of_rows
from klinefleet.workers.lake.partitions import moments_of
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import days_of
from klinefleet.workers.support.retry import VERIFICATION

T = TypeVar("T")
_THEIRS = " of the source"


class Against(StrEnum):
    """What held rows are compared with."""

    NOTHING = "nothing"
    ARCHIVE = "archive"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Sample:
    """Which part of what is held is compared, and with what; the same seed draws the same days."""

    against: Against = Against.NOTHING
    share: float = 0.0
    seed: int = 0


NO_SAMPLE = Sample()


@dataclass(slots=True)
class Compared:
    """What came of one partition's sample."""

    faults: list[Fault] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    """What could not be compared because the source does not have it."""
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be compared because the source did not answer."""
    rows: int = 0
    """Rows that were compared, those that differ among them."""


def compare(
    services: Services, series: Series, month: str, checked: Checked, sample: Sample, *, sure: bool
) -> Compared:
    """Compare a sample of a readable partition's covered time; at least one day of it where `sure`."""
    done = Compared()
    if checked.rows is None or checked.footer is None:
        return done
    covered = spans.clip(checked.footer.covered, month_span(month))
    for unit in drawn(series, month, covered, sample, sure=sure):
        parts, name = spans.clip(covered, unit), f"{series} {unit}"
        try:
            theirs = _rows_of(services, series, unit, parts, sample.against)
        except OverWeight:
            raise
        except (ArchiveFileUnusable, Refused) as error:
            done.told[name] = error.reason
            continue
        except FleetError as error:
            done.failed[name] = error.reason
            continue
        ours = _within(series.kind, checked.rows, parts)
        done.rows += max(ours.height, theirs.height)
        unknown = ours.join(theirs, on="_moment", how="anti")
        if unknown.height and (sample.against is Against.ARCHIVE or not theirs.height):
            done.told[name] = (
                f"{unknown.height:,} rows are held that {sample.against} does not have"
            )
            ours = ours.join(unknown, on="_moment", how="anti")
        done.faults += _differences(series, month, ours, theirs, sample.against)
    return done


def drawn(
    series: Series, month: str, covered: list[Span], sample: Sample, *, sure: bool
) -> list[Span]:
    """Return the days (months, where a candle is long) that the sample takes of a partition, oldest
    first.
    """
    bounds = month_span(month)
    whole = [bounds] if _is_long(series) else days_of(bounds)
    units = [unit for unit in whole if spans.clip(covered, unit)]
    random, wanted = (
        Random(f"{sample.seed}|{keys.partition(series, month)}"),
        sample.share * len(units),
    )
    count = int(wanted) + (random.random() < wanted % 1)
    return sorted(random.sample(units, min(len(units), max(count, int(sure)))))


def _is_long(series: Series) -> bool:
    return series.interval.is_coarse or not has_daily(series)


def _rows_of(
    services: Services, series: Series, unit: Span, parts: list[Span], against: Against
) -> pl.DataFrame:
    """Return what the source has of `parts` of a unit."""
    if against is Against.REST:
        asked = [page for part in parts for page in pages(series, part)]
        rows = decode_pages(
            series.kind,
            [_tried(services, partial(_page, services, series, page)) for page in asked],
        )
    else:
        file = ArchiveFile.of(
            series, Source.MONTHLY if _is_long(series) else Source.DAILY, unit.start_ms
        )
        body = _tried(services, partial(services.archive.download, file)).body
        rows = decode_archive(series.kind, member(body, file.stem))
    return _within(series.kind, rows, parts)


def _page(services: Services, series: Series, page: Page) -> bytes:
    answer = services.client(series.market).rows(series, page)
    inspect(answer.body, page, series, answer.server_ms)
    return answer.body


def _tried(services: Services, ask: Callable[[], T]) -> T:
    def pause(seconds: float) -> None:
        services.stop.wait(seconds)

    def may_recover(error: BaseException) -> bool:
        return isinstance(error, Transient | ChecksumMismatch) and not isinstance(error, OverWeight)

    return VERIFICATION.retrying(may_recover, sleep=pause)(ask)


def _within(kind: Kind, rows: pl.DataFrame, parts: list[Span]) -> pl.DataFrame:
    """Return the rows of `parts`, each once, with what tells them apart as `_moment`."""
    times = pl.col(kind.time_column).dt.timestamp("ms")
    within = [times.is_between(part.start_ms, part.end_ms, closed="left") for part in parts]
    tagged = rows.with_columns(_moment=moments_of(kind, rows)).filter(pl.any_horizontal(within))
    return tagged.unique("_moment", keep="first", maintain_order=True)


def _differences(
    series: Series, month: str, ours: pl.DataFrame, theirs: pl.DataFrame, against: Against
) -> Iterator[Fault]:
    """Yield the rows that only one of both has, and those that differ, with both values."""
    time, kind = series.kind.time_column, series.kind
    compared = kind.disputed
    both = ours.join(theirs, on="_moment", suffix=_THEIRS, maintain_order="left")
    differ = both.filter(
        ~pl.all_horizontal(pl.col(name).eq_missing(pl.col(name + _THEIRS)) for name in compared)
    )
    values: dict[int, str] = {}
    for row in differ.with_columns(pl.col(time).dt.timestamp("ms")).iter_rows(named=True):
        pairs = [(name, row[name], row[name + _THEIRS]) for name in compared]
        values[row[time]] = ", ".join(
            f"{name} {a}, {against} {b}" for name, a, b in pairs if a != b
        )
    for rows, told in (
        (theirs.join(ours, on="_moment", how="anti"), f"not held, {against} has it"),
        (ours.join(theirs, on="_moment", how="anti"), f"held, {against} does not have it"),
    ):
        values |= dict.fromkeys(rows[time].dt.timestamp("ms"), told)
    yield from faults_of_rows(series, month, What.DIFFERS, sorted(values), values)

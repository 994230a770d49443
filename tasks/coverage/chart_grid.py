"""What the coverage charts show: a row a series, a column a month, day or hour, and the holes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from klinefleet.tasks.coverage.holes import Reason
from klinefleet.tasks.coverage.report import CoverageReport, GroupReport, SeriesReport
from klinefleet.tasks.coverage.text import catalog_text
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS

#: The longest range that is shown in hours, and in days. Longer ones are shown in months.
_MAX_HOURS_MS, _MAX_DAYS_MS = 3 * DAY_MS, 92 * DAY_MS

#: The least share of each shade, best first, and its name in the legend.
SHADES = (
    (1.0, "complete"),
    (0.999, "≥ 99.9 %"),
    (0.99, "≥ 99 %"),
    (0.9, "≥ 90 %"),
    (0.5, "≥ 50 %"),
    (0.0, "< 50 %"),
)

#: Reasons of time in which a series did not trade.
NOT_TRADING = (Reason.BEFORE_LISTING, Reason.AFTER_END)
#: The order in which holes are drawn: reasons of long holes first, so that they hide no short ones;
#: failures and damage last, so that nothing hides them.
LAYERS = (
    *NOT_TRADING,
    Reason.NOT_FETCHED,
    Reason.BEING_FETCHED,
    Reason.NOT_PUBLISHED,
    Reason.OUTAGE,
    Reason.NO_CANDLE,
    Reason.ONE_WITNESS,
    Reason.FAILED,
    Reason.DAMAGED,
)


@dataclass(frozen=True)
class Column:
    """A month, a day or an hour."""

    span: Span
    name: str
    """Its full name, for the hover text."""
    label: str
    """Its short name, below the heading."""
    heading: str
    """What it has in common with its neighbours: the year, month or day."""


@dataclass(frozen=True)
class Row:
    """One series."""

    report: SeriesReport
    shares: list[float | None]
    """The share of each column's candles that is held; None where the series did not trade."""


@dataclass(frozen=True)
class ChartGrid:
    """The rows of one market, kind and interval."""

    title: str
    columns: list[Column]
    rows: list[Row]

    def position(self, ms: int) -> float:
        """Return the position of a time in columns from the left.

        Columns are equally wide, though months are not equally long.
        """
        n = bisect_right(self.columns, ms, key=lambda column: column.span.start_ms) - 1
        n = max(0, min(n, len(self.columns) - 1))
        span = self.columns[n].span
        position = n + (ms - span.start_ms) / (span.end_ms - span.start_ms)
        return min(len(self.columns), max(0.0, position))

    def headings(self) -> Iterator[tuple[str, int, int]]:
        """Yield each heading with its first column, and the one after its last."""
        starts = [
            n
            for n, column in enumerate(self.columns)
            if not n or self.columns[n - 1].heading != column.heading
        ]
        for start, end in pairwise([*starts, len(self.columns)]):
            yield self.columns[start].heading, start, end


def build_grids(report: CoverageReport) -> list[ChartGrid]:
    """Return a grid for each market, kind and interval of a report."""
    return [_build_grid(group) for group in report.groups]


def shade(share: float) -> int:
    """Return the index in SHADES of a share of candles."""
    return next(n for n, (least, _) in enumerate(SHADES) if share >= least)


def _build_grid(group: GroupReport) -> ChartGrid:
    columns = list(_columns(group.requested))
    rows = [
        Row(series, [_share(series, column.span, group.group.interval) for column in columns])
        for series in group.series
    ]
    title = f"{group.group} · {len(rows):,} series · {group.requested} · {catalog_text(group)}"
    return ChartGrid(title, columns, rows)


def _share(report: SeriesReport, column: Span, interval: Interval) -> float | None:
    """Return the share of a column's candles that is held; None where the series did not trade."""
    requested = column.clip(report.requested)
    holes = [
        hole
        for hole in report.holes
        if hole.span.end_ms > requested.start_ms and hole.span.start_ms < requested.end_ms
    ]
    not_trading = (hole.span for hole in holes if hole.reason in NOT_TRADING)
    traded = spans.without([requested], not_trading)
    expected = _measure(interval, traded)
    if not expected:
        return None
    missing = spans.both(traded, (hole.span for hole in holes))
    return 1 - _measure(interval, missing) / expected


def _measure(interval: Interval, parts: list[Span]) -> int:
    """Return how many rows the calendar has in `parts`; of events, milliseconds."""
    if not interval.is_grid:
        return sum(part.end_ms - part.start_ms for part in parts)
    return sum(interval.opens(part.start_ms, part.end_ms) for part in parts)


def _columns(requested: Span) -> Iterator[Column]:
    length_ms = requested.end_ms - requested.start_ms
    if length_ms > _MAX_DAYS_MS:
        for month, span in months_of(requested):
            yield Column(span, month, month[5:], month[:4])
        return
    step_ms = HOUR_MS if length_ms <= _MAX_HOURS_MS else DAY_MS
    first_ms = requested.start_ms - requested.start_ms % step_ms
    for start_ms in range(first_ms, requested.end_ms, step_ms):
        start = datetime.fromtimestamp(start_ms / 1000, UTC)
        span = Span(start_ms, start_ms + step_ms)
        if step_ms == HOUR_MS:
            yield Column(span, f"{start:%Y-%m-%d %H:00}", f"{start:%H}", f"{start:%Y-%m-%d}")
        else:
            yield Column(span, f"{start:%Y-%m-%d}", f"{start:%d}", f"{start:%Y-%m}")

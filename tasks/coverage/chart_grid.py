"""What the picture of coverage shows: a row a series, a column a month (or day, or hour), and marks
for the holes.
"""

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

#: Ranges up to so long are shown in hours, or in days; longer ones in months.
_HOURS_UP_TO_MS, _DAYS_UP_TO_MS = 3 * DAY_MS, 92 * DAY_MS

#: From which share on a cell has which shade, best first, and how the legend calls it.
SHADES = (
    (1.0, "complete"),
    (0.999, "≥ 99.9 %"),
    (0.99, "≥ 99 %"),
    (0.9, "≥ 90 %"),
    (0.5, "≥ 50 %"),
    (0.0, "< 50 %"),
)

#: Time in which there was nothing to be had.
NEVER = (Reason.BEFORE_LISTING, Reason.AFTER_END)
#: Marks in the order they are drawn in: a short hole is not hidden by a long one, and what failed
#: by none.
LAYERS = (
    *NEVER,
    Reason.NOT_FETCHED,
    Reason.BEING_FETCHED,
    Reason.NOT_PUBLISHED,
    Reason.OUTAGE,
    Reason.NO_CANDLE,
    Reason.FAILED,
    Reason.DAMAGED,
)


@dataclass(frozen=True)
class Column:
    """A month, a day or an hour."""

    span: Span
    name: str
    """Of the whole column, for the hover text."""
    label: str
    """Below its heading."""
    heading: str
    """What it shares with its neighbours: a year, a month or a day."""


@dataclass(frozen=True)
class Row:
    """One series: of each column the share of candles that is there, None where the series did not
    trade.
    """

    report: SeriesReport
    shares: list[float | None]


@dataclass(frozen=True)
class ChartGrid:
    """The rows of one market, kind and interval."""

    title: str
    columns: list[Column]
    rows: list[Row]

    def place(self, ms: int) -> float:
        """Return how many columns from the left a moment lies; columns are equally wide, months not
        equally long.
        """
        n = bisect_right(self.columns, ms, key=lambda column: column.span.start_ms) - 1
        n = max(0, min(n, len(self.columns) - 1))
        span = self.columns[n].span
        return min(
            len(self.columns), max(0.0, n + (ms - span.start_ms) / (span.end_ms - span.start_ms))
        )

    def headings(self) -> Iterator[tuple[str, int, int]]:
        """Yield each heading with the columns it stands over: from, and up to but not including."""
        starts = [
            n
            for n, column in enumerate(self.columns)
            if not n or self.columns[n - 1].heading != column.heading
        ]
        for start, end in pairwise([*starts, len(self.columns)]):
            yield self.columns[start].heading, start, end


def grids(report: CoverageReport) -> list[ChartGrid]:
    """Return what is drawn of a report, each market, kind and interval for itself."""
    return [_grid(group) for group in report.groups]


def shade(share: float) -> int:
    """Return the index in SHADES of a share of candles."""
    return next(n for n, (least, _) in enumerate(SHADES) if share >= least)


def _grid(group: GroupReport) -> ChartGrid:
    columns = list(_columns(group.asked))
    rows = [
        Row(one, [_share(one, column.span, group.group.interval) for column in columns])
        for one in group.series
    ]
    return ChartGrid(
        f"{group.group} · {len(rows):,} series · {group.asked} · {catalog_text(group)}",
        columns,
        rows,
    )


def _share(one: SeriesReport, column: Span, interval: Interval) -> float | None:
    """Return the share of a column's candles that are there, None where there are none to be had."""
    within = column.clip(one.asked)
    gone = [
        hole
        for hole in one.holes
        if hole.span.end_ms > within.start_ms and hole.span.start_ms < within.end_ms
    ]
    never = [hole.span for hole in gone if hole.reason in NEVER]
    lived = spans.without([within], never)
    wanted = _opens(interval, lived)
    return (
        1 - _opens(interval, spans.both(lived, (hole.span for hole in gone))) / wanted
        if wanted
        else None
    )


def _opens(interval: Interval, parts: list[Span]) -> int:
    """Return how many rows the calendar has in parts of time; of events, which have none, how many
    milliseconds.
    """
    if not interval.is_grid:
        return sum(part.end_ms - part.start_ms for part in parts)
    return sum(interval.opens(part.start_ms, part.end_ms) for part in parts)


def _columns(asked: Span) -> Iterator[Column]:
    length_ms = asked.end_ms - asked.start_ms
    if length_ms > _DAYS_UP_TO_MS:
        for month, span in months_of(asked):
            yield Column(span, month, month[5:], month[:4])
        return
    step_ms = HOUR_MS if length_ms <= _HOURS_UP_TO_MS else DAY_MS
    for start_ms in range(asked.start_ms - asked.start_ms % step_ms, asked.end_ms, step_ms):
        at = datetime.fromtimestamp(start_ms / 1000, UTC)
        span = Span(start_ms, start_ms + step_ms)
        if step_ms == HOUR_MS:
            yield Column(span, f"{at:%Y-%m-%d %H:00}", f"{at:%H}", f"{at:%Y-%m-%d}")
        else:
            yield Column(span, f"{at:%Y-%m-%d}", f"{at:%d}", f"{at:%Y-%m}")

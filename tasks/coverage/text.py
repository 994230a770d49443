"""What `klines coverage` prints: a line a series, and on request every hole under it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from itertools import islice

from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.coverage.report import CoverageReport, GroupReport, SeriesReport
from klinefleet.workers.domain.timestamps import iso

#: Holes of one series that are printed; --json has all.
MAX_HOLES = 1_000

#: How a count of holes is named: of one, and of several.
_COUNTED = {
    Reason.BEFORE_LISTING: ("before listing", "before listing"),
    Reason.AFTER_END: ("after end", "after end"),
    Reason.OUTAGE: ("outage", "outages"),
    Reason.NO_CANDLE: ("without candle", "without candle"),
    Reason.ONE_WITNESS: ("absent by one witness", "absent by one witness"),
    Reason.FAILED: ("failed", "failed"),
    Reason.NOT_PUBLISHED: ("not published", "not published"),
    Reason.BEING_FETCHED: ("being fetched", "being fetched"),
    Reason.NOT_FETCHED: ("not fetched", "not fetched"),
    Reason.DAMAGED: ("damaged", "damaged"),
}


def lines(report: CoverageReport, *, every_hole: bool) -> Iterator[str]:
    """Yield the report line by line; with `every_hole` each hole under its series."""
    for group in report.groups:
        yield from _group_lines(group, every_hole)
        yield ""
    yield _summary(report)
    if not report.has_run_state:
        yield (
            "Redis does not answer: active runs are unknown, failures are those of the reports in "
            "the store."
        )


def share_text(share: float | None) -> str:
    """Return a share in percent; 100 % only if nothing is missing."""
    if share is None:
        return "–"
    return "100 %" if share == 1 else f"{math.floor(share * 10_000) / 100:.2f} %"


def reason_text(hole: MissingSpan) -> str:
    """Return a hole's reason with its detail and next step."""
    detail = f" ({hole.detail})" if hole.detail else ""
    next_step = f"; next step: {hole.next_step}" if hole.next_step else ""
    return f"{hole.reason}{detail}{next_step}"


def counts_text(report: SeriesReport) -> str:
    """Return the number of holes by reason, in words."""
    counts = report.counts
    return ", ".join(
        f"{counts[reason]:,} {_COUNTED[reason][counts[reason] > 1]}"
        for reason in Reason
        if counts[reason]
    )


def catalog_text(report: GroupReport) -> str:
    """Return how old the listing dates are, or how to get some."""
    if report.catalog_ms is None:
        command = f"klines catalog update --market {report.group.market}"
        return f"listing dates unknown: run `{command}`"
    return f"listing dates of {iso(report.catalog_ms)[:10]}"


def padded(text: str, width: int) -> str:
    """Return a text padded with blanks to `width` columns; some letters take two."""
    columns = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return text + " " * (width - columns)


def _group_lines(group: GroupReport, every_hole: bool) -> Iterator[str]:
    yield f"{group.group}  {group.requested}  {catalog_text(group)}"
    yield f"  {'symbol':<20} {'held':<33} {'rows':>13} {'share':>8}  holes"
    for report in group.series:
        yield _series_line(report)
        if every_hole:
            for hole in islice(report.holes, MAX_HOLES):
                yield f"    {hole.span!s:<34} {_hole_text(report, hole)}"
            if len(report.holes) > MAX_HOLES:
                yield f"    and {len(report.holes) - MAX_HOLES:,} more: --json lists all"


def _series_line(report: SeriesReport) -> str:
    symbol = padded(report.series.symbol, 20)
    held = str(report.held) if report.held else "nothing"
    share = share_text(report.share)
    line = f"  {symbol} {held:<33} {report.rows:>13,} {share:>8}  {counts_text(report)}"
    return line.rstrip()


def _hole_text(report: SeriesReport, hole: MissingSpan) -> str:
    candles = report.missing_rows(hole)
    if candles is None:
        return reason_text(hole)
    return f"{candles:,} {'candle' if candles == 1 else 'candles'}, {reason_text(hole)}"


def _summary(report: CoverageReport) -> str:
    incomplete = [series for series in report.series if not series.is_complete]
    rows = sum(series.rows for series in report.series)
    total = f"{len(report.series):,} series, {rows:,} rows"
    by_one = sum(bool(series.counts[Reason.ONE_WITNESS]) for series in report.series)
    if not incomplete and by_one:
        return (
            f"{total}: nothing is missing, but {by_one:,} of them have time absent by one witness."
        )
    if not incomplete:
        return f"{total}: everything that exists is held."
    return f"{total}: {len(incomplete):,} of them lack something that can be fetched."

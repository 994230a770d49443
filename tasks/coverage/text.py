"""What `klines coverage` prints for people: one line a series, or every hole of it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from itertools import islice

from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.coverage.report import CoverageReport, GroupReport, SeriesReport
from klinefleet.workers.domain.timestamps import iso

#: Holes of one series that are printed; --json has all.
MOST_HOLES = 1_000

#: One and several, as a line counts them.
_COUNTED = {
    Reason.BEFORE_LISTING: ("before listing", "before listing"),
    Reason.AFTER_END: ("after end", "after end"),
    Reason.OUTAGE: ("outage", "outages"),
    Reason.NO_CANDLE: ("without candle", "without candle"),
    Reason.FAILED: ("failed", "failed"),
    Reason.NOT_PUBLISHED: ("not published", "not published"),
    Reason.BEING_FETCHED: ("being fetched", "being fetched"),
    Reason.NOT_FETCHED: ("not fetched", "not fetched"),
    Reason.DAMAGED: ("damaged", "damaged"),
}


def lines(report: CoverageReport, *, every_hole: bool) -> Iterator[str]:
    """Yield the report line by line; `every_hole`: with each hole under its series."""
    for group in report.groups:
        yield from _group(group, every_hole)
        yield ""
    yield _summary(report)
    if not report.is_redis_asked:
        yield (
            "No Redis answers: what runs are doing is not known, and of failures what reports "
            "in the store tell."
        )


def share_text(share: float | None) -> str:
    """Return a share as people read it; 100 % only where nothing is missing."""
    if share is None:
        return "–"
    return "100 %" if share == 1 else f"{math.floor(share * 10_000) / 100:.2f} %"


def hole_text(one: SeriesReport, hole: MissingSpan) -> str:
    """Return a hole's reason with all that is known of it."""
    candles = one.missing(hole)
    counted = "" if candles is None else f"{candles:,} {'candle' if candles == 1 else 'candles'}, "
    told = f" ({hole.told})" if hole.told else ""
    return f"{counted}{hole.reason}{told}{f'; again: {hole.again}' if hole.again else ''}"


def counts_text(one: SeriesReport) -> str:
    """Return how many holes there are of each reason, in words."""
    return ", ".join(
        f"{n:,} {_COUNTED[reason][n > 1]}" for reason, n in sorted(one.counts.items(), key=_order)
    )


def catalog_text(group: GroupReport) -> str:
    """Return since when it is known when symbols were listed."""
    if group.catalog_ms is None:
        return (
            f"listing dates not known: `klines catalog update --market {group.group.market}` "
            "tells them"
        )
    return f"listing dates of {iso(group.catalog_ms)[:10]}"


def padded(text: str, width: int) -> str:
    """Return a text with blanks behind it; symbols may be in letters that are two columns wide."""
    taken = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return text + " " * (width - taken)


def _group(group: GroupReport, every_hole: bool) -> Iterator[str]:
    yield f"{group.group}  {group.asked}  {catalog_text(group)}"
    yield f"  {'symbol':<20} {'held':<33} {'rows':>13} {'share':>8}  holes"
    for one in group.series:
        held = str(one.held) if one.held else "nothing"
        told = counts_text(one)
        yield (
            f"  {padded(one.series.symbol, 20)} {held:<33} {one.rows:>13,} {share_text(one.share):>8}  {told}".rstrip()
        )
        if every_hole:
            for hole in islice(one.holes, MOST_HOLES):
                yield f"    {hole.span!s:<34} {hole_text(one, hole)}"
            if len(one.holes) > MOST_HOLES:
                yield f"    and {len(one.holes) - MOST_HOLES:,} more: --json names all"


def _summary(report: CoverageReport) -> str:
    lacking = [one for one in report.series if one.is_lacking]
    rows = sum(one.rows for one in report.series)
    total = f"{len(report.series):,} series, {rows:,} rows"
    if not lacking:
        return f"{total}: everything that exists is held."
    return f"{total}: {len(lacking):,} of them lack something that can be fetched."


def _order(counted: tuple[Reason, int]) -> int:
    return list(Reason).index(counted[0])

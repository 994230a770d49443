"""How a span of a series is cut into REST pages, and what each weighs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.markets import RULES
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS


@dataclass(frozen=True, slots=True)
class Page:
    """One call: the rows that open in `span`, at most `limit` of them, for `weight`."""

    span: Span
    limit: int
    weight: int


def pages(series: Series, span: Span) -> Iterator[Page]:
    """Yield the calls that bring every row of `span`, oldest first.

    Each is as long as brings the most rows per weight; all are filled alike.
    """
    interval, rule = series.interval, series.kind.pages
    start_ms = interval.ceil(span.start_ms)
    begin_ms = span.start_ms
    for calls in range(page_count(series, span), 0, -1):
        rows = -(-interval.opens(start_ms, span.end_ms) // calls)
        start_ms = interval.advance(start_ms, rows)
        end_ms = span.end_ms if calls == 1 else start_ms
        if rule:
            yield Page(Span(begin_ms, end_ms), rule.limit, rule.weight)
        else:
            yield Page(Span(begin_ms, end_ms), rows, RULES[series.market].weight(rows))
        begin_ms = end_ms


def page_count(series: Series, span: Span) -> int:
    """Return how many calls `pages` makes of `span`."""
    return -(-series.interval.opens(span.start_ms, span.end_ms) // _rows_of_page(series))


def _rows_of_page(series: Series) -> int:
    rules, interval = RULES[series.market], series.interval
    page_rows = series.kind.pages.expected if series.kind.pages else rules.page_rows
    if rules.longest_ms is None:
        return page_rows
    longest_step_ms = 31 * DAY_MS if interval is Interval.MO1 else interval.step_ms
    # One candle less: a span may begin up to a candle before its first open time.
    return max(1, min(page_rows, rules.longest_ms // longest_step_ms - 1))

"""How a span of a series is cut into REST pages, and what each weighs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.markets import RULES, Rules
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS

#: Rows of a funding call, at most, and how many eight-hourly events it is made for: there is room
#: for one every four hours, and a page that comes back full is asked for in halves.
FUNDING_ROWS, _FUNDING_EVENTS = 1000, 500


@dataclass(frozen=True, slots=True)
class Page:
    """One call: the candles that open in `span`, at most `limit` of them, for `weight`."""

    span: Span
    limit: int
    weight: int


def pages(series: Series, span: Span) -> Iterator[Page]:
    """Yield the calls that bring every candle of `span`, each as long as pays, evenly filled,
    oldest first.
    """
    rules, interval = RULES[series.market], series.interval
    start_ms = interval.ceil(span.start_ms)
    left = -(-interval.opens(span.start_ms, span.end_ms) // _rows_of_page(rules, interval))
    begin_ms = span.start_ms
    for calls in range(left, 0, -1):
        rows = -(-interval.opens(start_ms, span.end_ms) // calls)
        start_ms = interval.advance(start_ms, rows)
        end_ms = span.end_ms if calls == 1 else start_ms
        if interval.is_grid:
            yield Page(Span(begin_ms, end_ms), rows, rules.weight(rows))
        else:
            yield Page(Span(begin_ms, end_ms), FUNDING_ROWS, 1)
        begin_ms = end_ms


def page_count(series: Series, span: Span) -> int:
    """Return how many calls `pages` makes of `span`."""
    return -(
        -series.interval.opens(span.start_ms, span.end_ms)
        // _rows_of_page(RULES[series.market], series.interval)
    )


def _rows_of_page(rules: Rules, interval: Interval) -> int:
    page_rows = rules.page_rows if interval.is_grid else _FUNDING_EVENTS
    if rules.longest_ms is None:
        return page_rows
    longest_step_ms = 31 * DAY_MS if interval is Interval.MO1 else interval.step_ms
    # One candle less: a span may begin up to a candle before its first open time.
    return max(1, min(page_rows, rules.longest_ms // longest_step_ms - 1))

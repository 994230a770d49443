from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS, Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import RULES, Market, Pool, check_interval
from klinefleet.workers.domain.paging import Page, page_count, pages
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, utc_ms
from klinefleet.workers.sources.windows import PAGES_PER_WINDOW, windows

#: What the exchange charges for a futures page of so many rows, at most, under both published
#: tables.
DEAREST = [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10), (1500, 10)]
LONGEST_COIN_M_MS = 200 * DAY_MS


@st.composite
def questions(
    draw: st.DrawFn, market: Market | None = None, *, on_opens: bool = False
) -> tuple[Series, Span]:
    """A series and a span of up to some dozen pages of it, anywhere, to the millisecond."""
    market = market or draw(st.sampled_from(Market))
    interval = draw(st.sampled_from([i for i in CANDLE_INTERVALS if i in RULES[market].intervals]))
    asked = Series(market, KLINES, interval, "BTCUSDT")
    begin_ms = interval.floor(draw(st.integers(utc_ms(2017), utc_ms(2026))))
    candles = draw(
        st.one_of(
            st.integers(0, 3), st.integers(0, 6000), st.sampled_from([499, 500, 998, 1000, 2000])
        )
    )
    end_ms = interval.advance(begin_ms, min(candles, 20 * 365 * DAY_MS // interval.step_ms))
    if not on_opens:
        begin_ms += draw(st.integers(0, interval.step_ms))
        end_ms += draw(st.integers(0, interval.step_ms))
    return asked, Span(begin_ms, max(begin_ms, end_ms))


def opens_in(asked: Series, span: Span) -> int:
    return asked.interval.opens(span.start_ms, span.end_ms)


def sent_ms(page: Page) -> int:
    """Length of a call as it is sent: both ends inclusive."""
    return page.span.end_ms - 1 - page.span.start_ms


@pytest.mark.parametrize("market", [Market.USD_M, Market.COIN_M])
@pytest.mark.parametrize(("rows", "weight"), DEAREST)
def test_futures_pages_are_never_charged_less_than_either_table_says(
    market: Market, rows: int, weight: int
) -> None:
    assert RULES[market].weight(rows) == weight


@pytest.mark.parametrize("rows", [1, 100, 1000])
def test_spot_pages_cost_the_same_whatever_their_length(rows: int) -> None:
    assert RULES[Market.SPOT].weight(rows) == 2


def test_both_futures_markets_share_one_pool_and_spot_has_its_own() -> None:
    assert [RULES[m].pool for m in (Market.SPOT, Market.USD_M, Market.COIN_M)] == [
        Pool.SPOT,
        Pool.FUTURES,
        Pool.FUTURES,
    ]


@pytest.mark.parametrize("market", Market)
def test_the_usual_page_brings_the_most_rows_for_its_weight(market: Market) -> None:
    rules = RULES[market]
    most = rules.weights[-1][0]
    best = max(range(1, most + 1), key=lambda rows: rows / rules.weight(rows))
    assert (rules.page_rows, rules.weight(rules.page_rows)) == (best, 2)


@pytest.mark.parametrize("market", Market)
def test_only_spot_has_seconds_and_all_have_the_rest(market: Market) -> None:
    for interval in CANDLE_INTERVALS:
        if interval is Interval.S1 and market is not Market.SPOT:
            with pytest.raises(RequestError, match="has no interval 1s"):
                check_interval(market, interval)
        else:
            check_interval(market, interval)


@settings(max_examples=70, deadline=None)
@given(questions())
def test_pages_partition_the_span_and_none_can_be_answered_short(
    question: tuple[Series, Span],
) -> None:
    """Every open time lies in exactly one page, and no page has more of them than its limit."""
    asked, span = question
    rules, calls = RULES[asked.market], list(pages(asked, span))
    assert page_count(asked, span) == len(calls)
    assert bool(calls) == bool(opens_in(asked, span))
    assume(calls)
    assert (calls[0].span.start_ms, calls[-1].span.end_ms) == (span.start_ms, span.end_ms)
    assert all(a.span.end_ms == b.span.start_ms for a, b in itertools.pairwise(calls))
    for page in calls:
        assert 1 <= opens_in(asked, page.span) == page.limit <= rules.page_rows
        assert page.weight == rules.weight(page.limit)


@settings(max_examples=70, deadline=None)
@given(questions())
def test_pages_are_as_few_as_the_limit_allows_and_evenly_filled(
    question: tuple[Series, Span],
) -> None:
    asked, span = question
    calls = list(pages(asked, span))
    assume(calls)
    assert max(p.limit for p in calls) - min(p.limit for p in calls) <= 1
    if RULES[asked.market].longest_ms is None:
        assert len(calls) == -(-opens_in(asked, span) // RULES[asked.market].page_rows)


@settings(max_examples=70, deadline=None)
@given(questions(Market.COIN_M, on_opens=True))
def test_a_coin_m_page_on_open_times_never_asks_for_more_than_200_days(
    question: tuple[Series, Span],
) -> None:
    assert all(sent_ms(page) <= LONGEST_COIN_M_MS for page in pages(*question))


def test_a_coin_m_page_of_a_span_between_open_times_never_asks_for_more_than_200_days() -> None:
    """The first Monday of 2025 is 6 January, and 28 weeks later it is 21 July."""
    weeks = Series(Market.COIN_M, KLINES, Interval.W1, "BTCUSD_PERP")
    calls = list(pages(weeks, Span(utc_ms(2025), utc_ms(2025, 7, 21))))
    assert max(map(sent_ms, calls)) <= LONGEST_COIN_M_MS


def test_a_small_job_is_asked_for_with_small_and_cheap_pages() -> None:
    minutes = Series(Market.USD_M, KLINES, Interval.M1, "BTCUSDT")
    at = utc_ms(2024, 1)
    [page] = pages(minutes, Span(at, at + 60 * MINUTE_MS))
    assert (page.limit, page.weight) == (60, 1)
    [page] = pages(minutes, Span(at, at + 499 * MINUTE_MS))
    assert (page.limit, page.weight) == (499, 2)
    assert [p.limit for p in pages(minutes, Span(at, at + 500 * MINUTE_MS))] == [250, 250]


def test_a_month_of_minutes_takes_the_fewest_calls_each_market_allows() -> None:
    span = Span(utc_ms(2024, 1), utc_ms(2024, 2))
    counts = {m: page_count(Series(m, KLINES, Interval.M1, "X"), span) for m in Market}
    assert counts == {Market.SPOT: 45, Market.USD_M: 90, Market.COIN_M: 90}


@settings(max_examples=80, deadline=None)
@given(questions(), st.lists(st.integers(0, 3000), max_size=4))
def test_windows_partition_what_is_missing_and_are_balanced(
    question: tuple[Series, Span], cuts: list[int]
) -> None:
    asked, span = question
    edges = sorted(
        {span.start_ms, span.end_ms, *(min(span.end_ms, span.start_ms + c * 997_000) for c in cuts)}
    )
    missing = [Span(a, b) for a, b in itertools.pairwise(edges)][::2]
    partition = asked.partition(span.start_ms)
    cut = list(windows(partition, missing))
    for gap in missing:
        of_gap = [
            w.span for w in cut if gap.start_ms <= w.span.start_ms and w.span.end_ms <= gap.end_ms
        ]
        assert bool(of_gap) == bool(opens_in(asked, gap))
        if of_gap:
            assert (of_gap[0].start_ms, of_gap[-1].end_ms) == (gap.start_ms, gap.end_ms)
            assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(of_gap))
            counts = [page_count(asked, one) for one in of_gap]
            assert max(counts) <= PAGES_PER_WINDOW
            assert max(counts) - min(counts) <= 1
    assert sum(len(list(pages(asked, w.span))) for w in cut) == sum(
        page_count(asked, gap) for gap in missing
    )
    assert all(w.partition == partition for w in cut)


def test_a_fetch_task_makes_the_very_calls_that_the_planner_has_counted() -> None:
    """The window is cut into pages again by the task that fetches it."""
    minutes = Series(Market.USD_M, KLINES, Interval.M1, "BTCUSDT")
    partition = minutes.partition(utc_ms(2024, 1))
    planned = list(pages(minutes, partition.span))
    fetched = [
        page
        for window in windows(partition, [partition.span])
        for page in pages(minutes, window.span)
    ]
    assert [page.span.start_ms for page in fetched] == [page.span.start_ms for page in planned]
    assert sum(page.weight for page in fetched) == sum(page.weight for page in planned)


def test_nothing_missing_gives_no_window() -> None:
    minutes = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
    assert list(windows(minutes.partition(utc_ms(2024, 1)), [])) == []

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from klinefleet.workers.sources.choice import (
    FILES_PER_WINDOW,
    LATE_MS,
    Assignment,
    assign_sources,
    days_of,
    fallback,
    files_of,
)
from klinefleet.workers.sources.policy import Mode, Policy
from tests.unit.helpers.in_process_fleet import series_of
from tests.unit.helpers.published_files import ALL_DAYS, BOTH, FILES, NOW_MS, REST, FakeArchiveIndex

MINUTES = series_of()
MARCH = Partition(MINUTES, "2024-03")
FORGOTTEN = Policy(Mode.AUTO, 40.0, is_small=True, has_rest=False)


def march(start_day: float, end_day: float) -> Span:
    """From one day of March 2024 to before another, fractions allowed."""
    begins = MARCH.span.start_ms - DAY_MS
    return Span(begins + int(start_day * DAY_MS), begins + int(end_day * DAY_MS))


def done(
    policy: Policy,
    index: FakeArchiveIndex,
    *parts: Span,
    partition: Partition = MARCH,
    now_ms: int = NOW_MS,
) -> tuple[list[tuple[str, str]], Assignment]:
    """The windows as (source, span), REST's joined, and all that was cut."""
    found = assign_sources(partition, list(parts or [partition.span]), index, policy, now_ms=now_ms)
    rest = spans.union(w.span for w in found.windows if w.source == Source.REST)
    told = [(str(w.source), str(w.span)) for w in found.windows if w.source.is_archive]
    return told + [("rest", str(span)) for span in rest], found


@pytest.mark.parametrize("policy", [FILES, BOTH, FORGOTTEN])
def test_a_whole_month_that_is_published_costs_no_weight(policy: Policy) -> None:
    index = FakeArchiveIndex(["2024-03"])
    assert done(policy, index)[0] == [("monthly", "2024-03-01..2024-04-01")]
    assert index.asked == ["monthly"]


@pytest.mark.parametrize(
    "policy", [REST, Policy(Mode.AUTO, 40.0, is_small=True)], ids=["rest", "small"]
)
def test_a_request_that_rest_answers_alone_never_waits_for_the_archive(policy: Policy) -> None:
    index = FakeArchiveIndex(["2024-03"], ALL_DAYS)
    assert done(policy, index)[0] == [("rest", "2024-03-01..2024-04-01")]
    assert index.asked == []


def test_a_small_request_that_may_ask_only_files_takes_files() -> None:
    only_files = Policy(Mode.ARCHIVE, 40.0, is_small=True)
    assert done(only_files, FakeArchiveIndex(["2024-03"]))[0] == [
        ("monthly", "2024-03-01..2024-04-01")
    ]


@pytest.mark.parametrize("policy", [FILES, BOTH, REST])
def test_nothing_missing_asks_nobody(policy: Policy) -> None:
    index = FakeArchiveIndex(["2024-03"])
    assert assign_sources(MARCH, [], index, policy, now_ms=NOW_MS) == Assignment([])
    assert index.asked == []


def test_no_part_of_a_published_month_is_asked_of_anybody_else() -> None:
    parts = [march(2, 12), march(20.25, 20.5)]
    assert done(BOTH, FakeArchiveIndex(["2024-03"], ALL_DAYS), *parts)[0] == [
        ("monthly", "2024-03-02..2024-03-20T12:00")
    ]


def test_a_few_days_of_a_published_month_are_taken_as_days_where_all_of_them_are_there() -> None:
    assert done(BOTH, FakeArchiveIndex(["2024-03"], ALL_DAYS), march(2, 5))[0] == [
        ("daily", "2024-03-02..2024-03-05")
    ]
    lacking = [day for day in ALL_DAYS if day != "2024-03-03"]
    assert done(BOTH, FakeArchiveIndex(["2024-03"], lacking), march(2, 5))[0] == [
        ("monthly", "2024-03-02..2024-03-05")
    ]


def test_a_file_is_not_fetched_for_the_candle_that_one_cheap_call_brings() -> None:
    for months in (["2024-03"], []):
        one_call, _ = done(
            Policy(Mode.AUTO, 2400.0), FakeArchiveIndex(months, ALL_DAYS), march(5, 5.25)
        )
        assert one_call == [("rest", "2024-03-05..2024-03-05T06:00")]


def test_a_budget_that_is_nearly_nothing_is_left_to_what_only_rest_has() -> None:
    slow = Policy(Mode.AUTO, 1.0)
    assert done(slow, FakeArchiveIndex(["2024-03"]), march(5, 5 + 1 / 1440))[0] == [
        ("monthly", "2024-03-05..2024-03-05T00:01")
    ]


def test_days_of_a_month_not_yet_published_come_from_files_and_the_last_from_rest() -> None:
    told, found = done(BOTH, FakeArchiveIndex([], ALL_DAYS[:20]), now_ms=utc_ms(2024, 3, 31))
    assert told == [
        ("daily", "2024-03-01..2024-03-10"),
        ("daily", "2024-03-10..2024-03-19"),
        ("daily", "2024-03-19..2024-03-21"),
        ("rest", "2024-03-21..2024-04-01"),
    ]
    assert (found.unavailable, found.missing_files) == ([], {})


def test_a_day_without_a_file_is_never_taken_for_one_beside_it() -> None:
    told, _ = done(
        BOTH, FakeArchiveIndex([], ["2024-03-01", "2024-03-03", "2024-03-04"]), march(1, 5)
    )
    assert told == [
        ("daily", "2024-03-01..2024-03-02"),
        ("daily", "2024-03-03..2024-03-05"),
        ("rest", "2024-03-02..2024-03-03"),
    ]


def test_two_holes_in_one_day_are_one_file_and_held_days_none() -> None:
    told, _ = done(
        BOTH, FakeArchiveIndex([], ALL_DAYS), march(3.25, 3.5), march(3.75, 4), march(9, 10)
    )
    assert told == [("daily", "2024-03-03T06:00..2024-03-04"), ("daily", "2024-03-09..2024-03-10")]


def test_where_rest_may_not_be_asked_the_time_without_files_is_absent_and_not_forgotten() -> None:
    told, found = done(FILES, FakeArchiveIndex([], ALL_DAYS[:20]), march(18, 24))
    assert told == [("daily", "2024-03-18..2024-03-21")]
    assert found.unavailable == [march(21, 24)]


def test_what_is_absent_is_never_a_time_without_candles() -> None:
    weekly = Partition(series_of(interval=Interval.W1), "2024")
    sunday = Span(utc_ms(2024, 3, 2), utc_ms(2024, 3, 4))
    assert (
        assign_sources(weekly, [sunday], FakeArchiveIndex(), FILES, now_ms=NOW_MS).unavailable == []
    )


def test_of_a_symbol_that_rest_has_forgotten_only_files_are_asked() -> None:
    told, found = done(FORGOTTEN, FakeArchiveIndex([], ALL_DAYS[:2]), march(1, 4))
    assert told == [("daily", "2024-03-01..2024-03-03")]
    assert found.unavailable == [march(3, 4)]


@pytest.mark.parametrize("interval", [Interval.D3, Interval.W1, Interval.MO1])
def test_no_daily_file_is_asked_for_where_the_archive_makes_none(interval: Interval) -> None:
    index = FakeArchiveIndex([], ALL_DAYS)
    found = assign_sources(
        Partition(series_of(interval=interval), "2024"), [MARCH.span], index, FILES, now_ms=NOW_MS
    )
    assert found.windows == []
    assert len(found.unavailable) == 1
    assert index.asked == ["monthly"]


def test_funding_comes_from_monthly_files_and_the_current_month_from_rest() -> None:
    year = Partition(Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT"), "2024")
    slow = Policy(Mode.AUTO, 1.0)
    spring = Span(utc_ms(2024, 3), utc_ms(2024, 6))
    told, _ = done(slow, FakeArchiveIndex(["2024-03", "2024-04"], ALL_DAYS), spring, partition=year)
    assert told == [("monthly", "2024-03-01..2024-05-01"), ("rest", "2024-05-01..2024-06-01")]


def test_the_months_of_a_year_that_are_cheaper_by_rest_are_not_twelve_files() -> None:
    year = Partition(series_of(interval=Interval.D1), "2023")
    months = [f"2023-{month:02}" for month in range(1, 13)]
    assert done(BOTH, FakeArchiveIndex(months), partition=year)[0] == [
        ("rest", "2023-01-01..2024-01-01")
    ]
    assert done(FILES, FakeArchiveIndex(months), partition=year)[0] == [
        ("monthly", "2023-01-01..2024-01-01")
    ]


KEY = "data/futures/um/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-03.zip"


@pytest.mark.parametrize(
    ("policy", "days", "instead"),
    [
        (BOTH, ALL_DAYS, "daily files instead"),
        (BOTH, ALL_DAYS[:3], "daily files and REST instead"),
        (BOTH, [], "REST instead"),
        (FILES, ALL_DAYS[:3], "daily files and nothing instead"),
        (FILES, [], "nothing instead"),
    ],
)
def test_a_month_that_should_be_published_is_told_with_what_answers_instead(
    policy: Policy, days: list[str], instead: str
) -> None:
    assert done(policy, FakeArchiveIndex([], days))[1].missing_files == {KEY: f"absent: {instead}"}


@pytest.mark.parametrize(
    ("ago_ms", "why"),
    [(-1, ""), (0, "not published yet"), (LATE_MS - 1, "not published yet"), (LATE_MS, "absent")],
)
def test_a_month_is_late_only_once_it_is_over_and_absent_only_weeks_after(
    ago_ms: int, why: str
) -> None:
    told = done(BOTH, FakeArchiveIndex([], ALL_DAYS), now_ms=MARCH.span.end_ms + ago_ms)[
        1
    ].missing_files
    assert told == ({KEY: f"{why}: daily files instead"} if why else {})


def test_months_before_the_first_file_of_a_series_are_missed_by_nobody_and_holes_after_it_are() -> (
    None
):
    spring = Span(utc_ms(2024, 1), utc_ms(2024, 6))
    year = Partition(series_of(interval=Interval.M15), "2024")
    told, found = done(BOTH, FakeArchiveIndex(["2024-03", "2024-05"]), spring, partition=year)
    assert told == [
        ("monthly", "2024-03-01..2024-04-01"),
        ("monthly", "2024-05-01..2024-06-01"),
        ("rest", "2024-01-01..2024-03-01"),
        ("rest", "2024-04-01..2024-05-01"),
    ]
    key = KEY.replace("1m", "15m").replace("2024-03", "2024-04")
    assert found.missing_files == {key: "absent: REST instead"}


def test_a_month_that_has_daily_files_is_missed_though_no_month_before_it_was_published() -> None:
    assert list(done(BOTH, FakeArchiveIndex(["2024-04"], ALL_DAYS))[1].missing_files) == [KEY]


def test_a_file_that_nobody_would_take_is_not_missed() -> None:
    assert (
        done(Policy(Mode.AUTO, 2400.0), FakeArchiveIndex(), march(5, 5.25))[1].missing_files == {}
    )


@pytest.mark.parametrize("policy", [BOTH, FILES])
def test_a_monthly_file_that_cannot_be_used_is_answered_for_by_every_day_of_it(
    policy: Policy,
) -> None:
    instead = fallback(Window(MARCH, march(1.5, 22), Source.MONTHLY), policy)
    assert {w.source for w in instead} == {Source.DAILY}
    assert spans.union(w.span for w in instead) == [march(1.5, 22)]
    assert max(len(files_of(w)) for w in instead) <= FILES_PER_WINDOW[Source.DAILY]


def test_a_daily_file_that_cannot_be_used_is_answered_for_by_rest_or_by_nobody() -> None:
    day = Window(MARCH, march(3, 4), Source.DAILY)
    instead = fallback(day, BOTH)
    assert {w.source for w in instead} == {Source.REST}
    assert spans.union(w.span for w in instead) == [day.span]
    assert fallback(day, FILES) == fallback(day, FORGOTTEN) == []


def test_a_monthly_file_of_a_series_without_daily_ones_is_answered_for_by_rest() -> None:
    weekly = Window(Partition(series_of(interval=Interval.W1), "2024"), MARCH.span, Source.MONTHLY)
    assert {w.source for w in fallback(weekly, BOTH)} == {Source.REST}
    assert fallback(weekly, FILES) == []


def test_thirty_one_files_are_not_fetched_in_place_of_one_cheap_call() -> None:
    daily = Window(Partition(series_of(interval=Interval.D1), "2024"), MARCH.span, Source.MONTHLY)
    assert {w.source for w in fallback(daily, BOTH)} == {Source.REST}
    assert {w.source for w in fallback(daily, FILES)} == {Source.DAILY}


def test_each_file_of_a_window_is_named_with_the_time_that_is_wanted_of_it() -> None:
    whole = files_of(Window(MARCH, march(2.5, 30), Source.MONTHLY))
    assert [(file.period, span) for file, span in whole] == [("2024-03", march(2.5, 30))]
    days = files_of(Window(MARCH, march(2.5, 4.25), Source.DAILY))
    assert [(file.period, span) for file, span in days] == [
        ("2024-03-02", march(2.5, 3)),
        ("2024-03-03", march(3, 4)),
        ("2024-03-04", march(4, 4.25)),
    ]
    assert all(spans.gaps([file.span], span) == [] for file, span in [*whole, *days])


@settings(max_examples=60, deadline=None)
@given(start_ms=st.integers(0, 2**41), length=st.integers(0, 9 * DAY_MS))
def test_days_cut_a_span_without_loss_and_never_reach_over_midnight(
    start_ms: int, length: int
) -> None:
    span = Span(start_ms, start_ms + length)
    days = list(days_of(span))
    assert spans.union(days) == ([] if span.is_empty else [span])
    assert sum(day.end_ms - day.start_ms for day in days) == length
    assert all(day.start_ms // DAY_MS == (day.end_ms - 1) // DAY_MS for day in days)


def test_a_candle_at_the_edge_of_two_months_belongs_to_one_file() -> None:
    year = Partition(series_of(interval=Interval.H4), "2024")
    edge = Span(utc_ms(2024, 4) - 4 * HOUR_MS, utc_ms(2024, 4) + MINUTE_MS)
    told, found = done(FILES, FakeArchiveIndex(["2024-03", "2024-04"]), edge, partition=year)
    assert told == [("monthly", "2024-03-31T20:00..2024-04-01T00:01")]
    assert [(file.period, str(part)) for file, part in files_of(found.windows[0])] == [
        ("2024-03", "2024-03-31T20:00..2024-04-01"),
        ("2024-04", "2024-04-01..2024-04-01T00:01"),
    ]

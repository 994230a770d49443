"""Sources of years, months and days: each missing row is fetched once, by the largest file."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS, utc_ms
from klinefleet.workers.sources.choice import FILES_PER_WINDOW, assign_sources, files_of
from klinefleet.workers.sources.policy import Mode, Policy
from tests.unit.helpers.in_process_fleet import series_of
from tests.unit.helpers.published_files import (
    ALL_DAYS,
    ALL_MONTHS,
    BOTH,
    FILES,
    NOW_MS,
    FakeArchiveIndex,
)

YEAR = Partition(series_of(interval=Interval.M15), "2024")
#: A day of which the archive has a daily file, a monthly file that has it, both or neither.
DAY = Partition(series_of(interval=Interval.S1, market=Market.SPOT), "2024-03-05")


def assigned(
    partition: Partition, index: FakeArchiveIndex, *parts: Span, policy: Policy = BOTH
) -> list[tuple[str, str]]:
    """Return the windows as (source, span), those of REST joined."""
    wanted = list(parts or [partition.span])
    found = assign_sources(partition, wanted, index, policy, now_ms=NOW_MS)
    files = [(str(w.source), str(w.span)) for w in found.windows if w.source.is_archive]
    rest = spans.union(w.span for w in found.windows if w.source == Source.REST)
    return files + [("rest", str(span)) for span in rest]


def year(start: tuple[int, int], end: tuple[int, int]) -> Span:
    return Span(utc_ms(2024, *start), utc_ms(2024, *end))


def test_a_whole_year_that_is_published_is_one_window_of_twelve_files() -> None:
    index = FakeArchiveIndex(ALL_MONTHS)
    found = assign_sources(YEAR, [YEAR.span], index, BOTH, now_ms=NOW_MS)
    (window,) = found.windows
    assert (window.source, window.span) == (Source.MONTHLY, YEAR.span)
    assert [file.period for file, _ in files_of(window)] == ALL_MONTHS
    assert index.asked == ["monthly"]


def test_of_the_first_and_the_last_month_of_a_year_only_the_missing_part_is_wanted() -> None:
    part = year((2, 14), (11, 20))
    (window,) = assign_sources(
        YEAR, [part], FakeArchiveIndex(ALL_MONTHS), BOTH, now_ms=NOW_MS
    ).windows
    assert window.span == part
    files = files_of(window)
    assert [file.period for file, _ in files] == ALL_MONTHS[1:11]
    assert [str(files[0][1]), str(files[-1][1])] == [
        "2024-02-14..2024-03-01",
        "2024-11-01..2024-11-20",
    ]


def test_a_month_without_a_file_parts_the_windows_of_a_year_and_comes_from_elsewhere() -> None:
    months = [month for month in ALL_MONTHS if month not in ("2024-03", "2024-12")]
    slow = Policy(Mode.AUTO, 4.0)
    assert assigned(YEAR, FakeArchiveIndex(months, ALL_DAYS[:9]), policy=slow) == [
        ("monthly", "2024-01-01..2024-03-01"),
        ("daily", "2024-03-01..2024-03-10"),
        ("monthly", "2024-04-01..2024-12-01"),
        ("rest", "2024-03-10..2024-04-01"),
        ("rest", "2024-12-01..2025-01-01"),
    ]


def test_a_month_of_a_year_that_is_held_is_not_fetched_again() -> None:
    parts = [year((1, 1), (4, 1)), year((5, 1), (7, 1))]
    assert assigned(YEAR, FakeArchiveIndex(ALL_MONTHS), *parts) == [
        ("monthly", "2024-01-01..2024-04-01"),
        ("monthly", "2024-05-01..2024-07-01"),
    ]


def test_two_holes_in_one_month_of_a_year_are_one_file() -> None:
    parts = [year((1, 5), (1, 12)), year((1, 20), (2, 20))]
    assert assigned(YEAR, FakeArchiveIndex(ALL_MONTHS), *parts) == [
        ("monthly", "2024-01-05..2024-02-20")
    ]


def test_a_few_days_of_a_year_are_daily_files_where_all_of_them_are_there() -> None:
    few, many = year((3, 2), (3, 5)), year((6, 1), (8, 1))
    assert assigned(YEAR, FakeArchiveIndex(ALL_MONTHS, ALL_DAYS), few, many) == [
        ("daily", "2024-03-02..2024-03-05"),
        ("monthly", "2024-06-01..2024-08-01"),
    ]


def test_a_year_that_is_not_over_has_files_of_its_months_then_of_its_days_and_then_rest() -> None:
    index = FakeArchiveIndex(ALL_MONTHS[:2], ALL_DAYS[:4])
    assert assigned(YEAR, index, year((1, 1), (3, 7))) == [
        ("monthly", "2024-01-01..2024-03-01"),
        ("daily", "2024-03-01..2024-03-05"),
        ("rest", "2024-03-05..2024-03-07"),
    ]


@pytest.mark.parametrize("policy", [BOTH, FILES])
def test_a_day_of_seconds_comes_from_its_own_file_though_the_months_has_it_too(
    policy: Policy,
) -> None:
    index = FakeArchiveIndex(["2024-03"], ALL_DAYS)
    assert assigned(DAY, index, policy=policy) == [("daily", "2024-03-05..2024-03-06")]


@pytest.mark.parametrize("policy", [BOTH, FILES])
def test_a_day_of_seconds_without_a_file_of_its_own_is_a_piece_of_the_months(
    policy: Policy,
) -> None:
    index = FakeArchiveIndex(["2024-03"], [day for day in ALL_DAYS if day != DAY.period])
    found = assign_sources(DAY, [DAY.span], index, policy, now_ms=NOW_MS)
    assert [(w.source, w.span) for w in found.windows] == [(Source.MONTHLY, DAY.span)]
    assert [(file.period, part) for file, part in files_of(found.windows[0])] == [
        ("2024-03", DAY.span)
    ]


def test_a_day_of_seconds_that_no_file_has_comes_from_rest_or_is_told_absent() -> None:
    index = FakeArchiveIndex(["2024-02"], ALL_DAYS[:4])
    assert assigned(DAY, index) == [("rest", "2024-03-05..2024-03-06")]
    assert assign_sources(DAY, [DAY.span], index, FILES, now_ms=NOW_MS).unavailable == [DAY.span]


def test_a_window_of_files_never_has_more_than_a_task_hides() -> None:
    march = Partition(series_of(), "2024-03")
    index = FakeArchiveIndex([], ALL_DAYS)
    found = assign_sources(march, [march.span], index, FILES, now_ms=NOW_MS)
    assert [len(files_of(w)) for w in found.windows] == [9, 9, 9, 4]


policies = st.builds(
    Policy,
    st.sampled_from([Mode.AUTO, Mode.ARCHIVE]),
    st.sampled_from([0.5, 40.0, 2400.0]),
    st.booleans(),
    st.booleans(),
)
fractions = st.floats(0, 1)


@settings(max_examples=150, deadline=None)
@given(
    policy=policies,
    interval=st.sampled_from([Interval.S1, Interval.M1, Interval.M5, Interval.M15, Interval.H1]),
    several=st.lists(st.tuples(fractions, fractions), min_size=1, max_size=5),
    months=st.sets(st.sampled_from(ALL_MONTHS)),
    days=st.sets(st.sampled_from([*ALL_DAYS, "2024-02-29", "2024-04-01", "2024-07-31"])),
)
def test_whatever_is_published_each_missing_candle_is_fetched_once_or_told_absent(
    policy: Policy,
    interval: Interval,
    several: list[tuple[float, float]],
    months: set[str],
    days: set[str],
) -> None:
    market = Market.SPOT if interval is Interval.S1 else Market.USD_M
    partition = series_of(interval=interval, market=market).partition(utc_ms(2024, 3, 5))
    begins, ends_ms = partition.span.start_ms, partition.span.end_ms
    hours = (ends_ms - begins) // HOUR_MS
    ends = [[begins + int(hours * at) * HOUR_MS for at in sorted(pair)] for pair in several]
    parts = spans.union(Span(*pair) for pair in ends)
    index = FakeArchiveIndex(months, days)
    found = assign_sources(partition, parts, index, policy, now_ms=NOW_MS)
    answered = sorted([w.span for w in found.windows] + found.unavailable)
    assert all(not spans.gaps(answered, part) for part in parts)
    assert all(one.end_ms <= other.start_ms for one, other in pairwise(answered))
    assert all(
        w.partition == partition and not spans.gaps([partition.span], w.span) for w in found.windows
    )
    of_files = [w for w in found.windows if w.source.is_archive]
    assert all(len(files_of(w)) <= FILES_PER_WINDOW[w.source] for w in of_files)
    files = [file for w in of_files for file, _ in files_of(w)]
    assert all(file.period in {*months, *days} for file in files)
    assert len(set(files)) == len(files)
    assert not found.unavailable or not policy.may_rest
    assert policy.may_rest or len(of_files) == len(found.windows)

"""What a partition's answers leave open, and who is asked before they are believed."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Partition, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, utc_ms
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.sources.consensus import SourceRows, resolve_conflicts
from klinefleet.workers.sources.doubts import (
    doubtful_spans,
    windows_for_disputes,
    windows_for_witnesses,
)
from klinefleet.workers.sources.policy import Mode, Policy
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, frame, minutes, opens
from tests.unit.helpers.published_files import FakeArchiveIndex
from tests.unit.helpers.source_rows import BOTH, FILES, FORGOTTEN, NONE, TEN, series, source_rows

REST = Policy(Mode.REST, 40.0)
GAP = minutes(3, 6)
FIRST_DAY, SECOND_DAY = "2024-01-01", "2024-01-02"
ALL = FakeArchiveIndex(["2024-01"], [FIRST_DAY, SECOND_DAY])
MONTHS, DAYS = FakeArchiveIndex(["2024-01"]), FakeArchiveIndex([], [FIRST_DAY])
NOTHING = FakeArchiveIndex()


def disputed(
    versions: list[SourceRows],
    policy: Policy = BOTH,
    held: pl.DataFrame = NONE,
    partition: Partition = JANUARY,
) -> list[Window]:
    resolution = resolve_conflicts(partition.series, versions, held)
    return windows_for_disputes(partition, versions, held, resolution, policy)


def doubtful(*versions: SourceRows) -> list[Span]:
    return doubtful_spans(MINUTES, versions, resolve_conflicts(MINUTES, versions, NONE))


def asked(
    given: Sequence[Source],
    policy: Policy = BOTH,
    index: FakeArchiveIndex = ALL,
    gaps: Sequence[Span] = (GAP,),
) -> list[tuple[str, Span]]:
    """Return who is asked about gaps, after these sources had no row there."""
    answers = [Answer(minutes(0, 60), source, n) for n, source in enumerate(given)]
    windows = windows_for_witnesses(JANUARY, gaps, answers, index, policy)
    return [(str(window.source), window.span) for window in windows]


def test_what_some_source_has_a_row_of_is_no_doubt() -> None:
    lacking = source_rows(Source.MONTHLY, lacks=range(3, 6))
    assert doubtful(lacking) == [GAP]
    assert doubtful(lacking, source_rows(Source.DAILY, lacks=range(5, 8))) == [minutes(5, 6)]
    assert doubtful(lacking, source_rows(Source.REST)) == []
    assert doubtful() == []


def test_time_that_nobody_was_asked_about_is_no_doubt() -> None:
    assert doubtful(source_rows(Source.MONTHLY), source_rows(Source.REST, minutes(20, 30))) == []


def test_a_short_answer_is_doubtful_to_its_end_and_an_empty_one_is_all_of_it() -> None:
    assert doubtful(source_rows(Source.REST, lacks=range(4, 10))) == [minutes(4, 10)]
    assert doubtful(SourceRows(Source.REST, TEN, NONE)) == [TEN]


def test_a_row_with_a_faulty_value_is_doubtful() -> None:
    rows = source_rows(Source.REST).rows
    at = pl.col("open_time").dt.timestamp("ms") == TEN.start_ms + 4 * MINUTE_MS
    faulty = rows.with_columns(low=pl.when(at).then(pl.lit(-1.0)).otherwise("low"))
    assert doubtful(SourceRows(Source.REST, TEN, faulty)) == [minutes(4, 5)]
    sound = doubtful(SourceRows(Source.REST, TEN, faulty), source_rows(Source.MONTHLY))
    assert sound == []


def test_a_gap_of_a_monthly_file_is_put_to_the_days_file_and_to_rest() -> None:
    assert asked([Source.MONTHLY]) == [("daily", GAP), ("rest", GAP)]
    assert asked([Source.MONTHLY], index=MONTHS) == [("rest", GAP)]


@pytest.mark.parametrize("policy", [FILES, FORGOTTEN])
def test_where_rest_may_not_be_asked_the_archives_other_file_is(policy: Policy) -> None:
    assert asked([Source.MONTHLY], policy) == [("daily", GAP)]
    assert asked([Source.DAILY], policy) == [("monthly", GAP)]
    assert asked([Source.MONTHLY], policy, MONTHS) == []
    assert asked([Source.DAILY], policy, DAYS) == []
    assert asked([Source.MONTHLY, Source.DAILY], policy) == []


def test_a_gap_of_rest_is_put_to_the_archive_and_to_rest_again_where_it_has_no_file() -> None:
    assert asked([Source.REST]) == [("daily", GAP)]
    assert asked([Source.REST], index=MONTHS) == [("monthly", GAP)]
    assert asked([Source.REST], index=NOTHING) == [("rest", GAP)]


def test_where_the_archive_may_not_be_asked_rest_is_asked_twice_and_no_file_is_listed() -> None:
    index = FakeArchiveIndex(["2024-01"], [FIRST_DAY])
    assert asked([Source.REST], REST, index) == [("rest", GAP)]
    assert index.asked == []


def test_a_gap_of_a_daily_file_is_put_to_rest_alone() -> None:
    assert asked([Source.DAILY]) == [("rest", GAP)]


@pytest.mark.parametrize(
    "given",
    [
        [Source.REST, Source.REST],
        [Source.MONTHLY, Source.DAILY],
        [Source.MONTHLY, Source.REST],
        [Source.DAILY, Source.REST],
    ],
)
@pytest.mark.parametrize("policy", [BOTH, REST, FILES, FORGOTTEN])
def test_what_two_witnesses_say_is_never_asked_again_and_nothing_is_listed(
    given: list[Source], policy: Policy
) -> None:
    index = FakeArchiveIndex(["2024-01"], [FIRST_DAY])
    assert asked(given, policy, index) == []
    assert index.asked == []


def test_a_source_that_covers_only_what_it_saw_is_no_witness_of_a_gap() -> None:
    assert asked([Source("stream"), Source.DAILY]) == [("rest", GAP)]
    assert asked([Source("stream")]) == [("daily", GAP), ("rest", GAP)]


def test_only_the_part_of_a_gap_that_one_witness_speaks_of_is_asked_about() -> None:
    answers = [Answer(minutes(0, 60), Source.MONTHLY), Answer(minutes(0, 5), Source.REST, 1)]
    windows = windows_for_witnesses(JANUARY, [GAP], answers, MONTHS, BOTH)
    assert windows == [Window(JANUARY, minutes(5, 6))]


def test_each_days_file_is_asked_for_its_own_part_of_a_gap() -> None:
    midnight = JANUARY_MS + DAY_MS
    gap = Span(midnight - 5 * MINUTE_MS, midnight + 5 * MINUTE_MS)
    answers = [Answer(JANUARY.span, Source.MONTHLY)]
    (files,) = windows_for_witnesses(JANUARY, [gap], answers, ALL, FORGOTTEN)
    assert files == Window(JANUARY, gap, Source.DAILY)
    one_day = FakeArchiveIndex(["2024-01"], [SECOND_DAY])
    windows = windows_for_witnesses(JANUARY, [gap], answers, one_day, FORGOTTEN)
    assert [window.span for window in windows] == [Span(midnight, gap.end_ms)]


def test_a_gap_of_rest_that_some_days_have_files_of_is_put_to_rest_for_the_others() -> None:
    midnight = JANUARY_MS + DAY_MS
    gap = Span(midnight - 5 * MINUTE_MS, midnight + 5 * MINUTE_MS)
    answers = [Answer(JANUARY.span, Source.REST)]
    windows = windows_for_witnesses(JANUARY, [gap], answers, DAYS, BOTH)
    assert [(str(window.source), window.span) for window in windows] == [
        ("daily", Span(gap.start_ms, midnight)),
        ("rest", Span(midnight, gap.end_ms)),
    ]


def test_gaps_near_one_another_are_one_call_and_far_ones_are_not() -> None:
    near = [minutes(n, n + 1) for n in range(10, 300, 20)]
    answers = [Answer(minutes(0, 2000), Source.REST)]
    (window,) = windows_for_witnesses(JANUARY, near, answers, NOTHING, BOTH)
    assert window.span == minutes(10, 291)
    far = [minutes(0, 1), minutes(1999, 2000)]
    windows = windows_for_witnesses(JANUARY, far, answers, NOTHING, BOTH)
    assert [window.span for window in windows] == far


def test_series_without_daily_files_are_put_to_the_months_file() -> None:
    weekly = Partition(series(Interval.W1), "2024")
    week = Span(utc_ms(2024, 1, 8), utc_ms(2024, 1, 15))
    answers = [Answer(weekly.span, Source.REST)]
    (window,) = windows_for_witnesses(weekly, [week], answers, MONTHS, BOTH)
    assert window == Window(weekly, week, Source.MONTHLY)


def test_sources_that_agree_leave_no_dispute() -> None:
    versions = [source_rows(source) for source in (Source.MONTHLY, Source.DAILY, Source.REST)]
    assert disputed(versions[:1]) == []
    assert disputed(versions, held=frame(opens(TEN), price="1")) == []


@pytest.mark.parametrize("policy", [FILES, FORGOTTEN])
def test_no_dispute_is_put_to_rest_where_it_may_not_be_asked(policy: Policy) -> None:
    assert disputed([source_rows(Source.MONTHLY), source_rows(Source.DAILY, odd=1)], policy) == []


def test_where_rest_differs_from_what_is_held_it_stands_alone() -> None:
    assert disputed([source_rows(Source.REST, odd=1)], held=frame(opens(TEN), price="1")) == []


def test_rows_on_which_files_differ_are_asked_of_rest() -> None:
    assert disputed([source_rows(Source.MONTHLY), source_rows(Source.DAILY, odd=4)]) == [
        Window(JANUARY, minutes(4, 5))
    ]


def test_a_file_that_would_change_what_is_held_is_not_believed_before_rest_is_asked() -> None:
    assert disputed([source_rows(Source.MONTHLY, odd=4)], held=frame(opens(TEN), price="1")) == [
        Window(JANUARY, minutes(4, 5))
    ]


def test_where_rest_and_a_monthly_file_differ_the_days_are_asked_for_their_vote_once() -> None:
    versions = [source_rows(Source.MONTHLY, odd=4), source_rows(Source.REST)]
    day = Span(JANUARY_MS, JANUARY_MS + DAY_MS)
    assert disputed(versions) == [Window(JANUARY, day, Source.DAILY)]
    assert disputed([*versions, source_rows(Source.DAILY, day)]) == []


def test_no_vote_is_asked_for_where_the_archive_has_no_daily_files() -> None:
    weekly = Partition(series(Interval.W1), "2024")
    monday = Span(utc_ms(2024, 1, 8), utc_ms(2024, 1, 15))
    versions = [
        SourceRows(source, monday, frame([monday.start_ms], price=str(n)))
        for n, source in enumerate((Source.MONTHLY, Source.REST))
    ]
    assert disputed(versions, partition=weekly) == []


def test_a_dispute_with_what_is_held_alone_costs_no_daily_file() -> None:
    versions = [source_rows(Source.MONTHLY), source_rows(Source.REST)]
    assert disputed(versions, held=frame(opens(TEN), price="7")) == []

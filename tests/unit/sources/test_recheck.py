"""What a source lacks, and which windows are asked of another source before it is believed."""

from __future__ import annotations

import polars as pl
import pytest

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Partition, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, utc_ms
from klinefleet.workers.sources.consensus import (
    SourceRows,
    missing_in,
    windows_to_recheck,
)
from klinefleet.workers.sources.policy import Policy
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, frame, minutes, opens
from tests.unit.helpers.source_rows import BOTH, FILES, FORGOTTEN, NONE, TEN, series, source_rows


def rechecked(
    versions: list[SourceRows],
    policy: Policy = BOTH,
    held: pl.DataFrame = NONE,
    partition: Partition = JANUARY,
) -> list[Window]:
    return windows_to_recheck(partition, versions, held, policy)


def test_a_source_that_tells_every_minute_lacks_none() -> None:
    assert missing_in(MINUTES, source_rows(Source.MONTHLY)) == []
    assert missing_in(MINUTES, source_rows(Source.MONTHLY, Span(TEN.start_ms, TEN.start_ms))) == []


def test_minutes_that_a_source_lacks_are_told_in_runs_and_to_its_edges() -> None:
    lacking = SourceRows(Source.DAILY, TEN, frame([*opens(minutes(2, 4)), *opens(minutes(5, 9))]))
    assert missing_in(MINUTES, lacking) == [minutes(0, 2), minutes(4, 5), minutes(9, 10)]
    assert missing_in(MINUTES, SourceRows(Source.DAILY, TEN, NONE)) == [TEN]


def test_a_row_that_opened_off_its_minute_stands_for_that_minute() -> None:
    late = [at + 137 if n == 4 else at for n, at in enumerate(opens(TEN))]
    assert missing_in(MINUTES, SourceRows(Source.DAILY, TEN, frame(late))) == []


def test_a_span_that_ends_within_a_candle_lacks_nothing_beyond_its_end() -> None:
    span = Span(TEN.start_ms, TEN.end_ms - 30_000)
    assert missing_in(MINUTES, SourceRows(Source.DAILY, span, NONE)) == [span]


def test_a_span_in_which_no_candle_opens_lacks_none() -> None:
    sunday = Span(utc_ms(2024, 3, 2), utc_ms(2024, 3, 4))
    assert missing_in(series(Interval.W1), SourceRows(Source.MONTHLY, sunday, NONE)) == []


@pytest.mark.parametrize(
    ("interval", "gone", "until"),
    [
        (Interval.MO1, (2024, 2, 1), (2024, 3, 1)),
        (Interval.W1, (2024, 2, 5), (2024, 2, 12)),
        (Interval.D3, (2024, 2, 2), (2024, 2, 5)),
        (Interval.D1, (2024, 2, 29), (2024, 3, 1)),
    ],
)
def test_a_coarse_candle_that_is_gone_is_missed_on_its_own_calendar(
    interval: Interval, gone: tuple[int, int, int], until: tuple[int, int, int]
) -> None:
    year, lost = Span(utc_ms(2024), utc_ms(2025)), Span(utc_ms(*gone), utc_ms(*until))
    assert interval.floor(lost.start_ms) == lost.start_ms
    first = interval.ceil(year.start_ms)
    times = [interval.advance(first, n) for n in range(interval.opens(year.start_ms, year.end_ms))]
    rows = frame([at for at in times if at != lost.start_ms])
    assert missing_in(series(interval), SourceRows(Source.MONTHLY, year, rows)) == [lost]


def test_sources_that_agree_leave_no_doubt() -> None:
    assert rechecked([source_rows(Source.MONTHLY)]) == []
    assert (
        rechecked(
            [source_rows(Source.MONTHLY), source_rows(Source.DAILY), source_rows(Source.REST)],
            held=frame(opens(TEN), price="1"),
        )
        == []
    )


def test_a_gap_of_a_file_is_asked_of_rest_and_of_nobody_else() -> None:
    assert rechecked([source_rows(Source.MONTHLY, lacks=range(3, 6))]) == [
        Window(JANUARY, minutes(3, 6))
    ]


@pytest.mark.parametrize("policy", [FILES, FORGOTTEN])
def test_nothing_is_asked_of_rest_where_it_may_not_be_asked(policy: Policy) -> None:
    assert (
        rechecked(
            [source_rows(Source.MONTHLY, lacks=range(3, 6)), source_rows(Source.DAILY, odd=1)],
            policy,
        )
        == []
    )


def test_a_gap_that_rest_has_confirmed_is_not_asked_for_again() -> None:
    rest = SourceRows(Source.REST, minutes(3, 6), NONE)
    assert rechecked([source_rows(Source.MONTHLY, lacks=range(3, 6)), rest]) == []
    assert rechecked([source_rows(Source.MONTHLY, lacks=range(2, 6)), rest]) == [
        Window(JANUARY, minutes(2, 3))
    ]


def test_a_gap_of_rest_is_the_exchanges_own_and_no_doubt() -> None:
    assert rechecked([source_rows(Source.REST, lacks=range(3, 6))]) == []
    assert rechecked([source_rows(Source.REST, odd=1)], held=frame(opens(TEN), price="1")) == []


def test_gaps_near_one_another_are_one_call_and_far_ones_are_not() -> None:
    near = source_rows(Source.MONTHLY, minutes(0, 400), lacks=range(10, 300, 20))
    assert [w.span for w in rechecked([near])] == [minutes(10, 291)]
    far = SourceRows(Source.MONTHLY, minutes(0, 2000), frame([*opens(minutes(1, 1999))]))
    assert [w.span for w in rechecked([far])] == [minutes(0, 1), minutes(1999, 2000)]


def test_rows_on_which_files_differ_are_asked_of_rest() -> None:
    assert rechecked([source_rows(Source.MONTHLY), source_rows(Source.DAILY, odd=4)]) == [
        Window(JANUARY, minutes(4, 5))
    ]


def test_a_file_that_would_change_what_is_held_is_not_believed_before_rest_is_asked() -> None:
    assert rechecked([source_rows(Source.MONTHLY, odd=4)], held=frame(opens(TEN), price="1")) == [
        Window(JANUARY, minutes(4, 5))
    ]


def test_where_rest_and_a_monthly_file_differ_the_days_are_asked_for_their_vote_once() -> None:
    versions = [source_rows(Source.MONTHLY, odd=4), source_rows(Source.REST)]
    day = Span(JANUARY_MS, JANUARY_MS + DAY_MS)
    assert rechecked(versions) == [Window(JANUARY, day, Source.DAILY)]
    assert rechecked([*versions, source_rows(Source.DAILY, day)]) == []


def test_rest_is_asked_before_any_daily_file_is() -> None:
    versions = [
        source_rows(Source.MONTHLY, minutes(0, 20), odd=4, lacks=range(15, 16)),
        source_rows(Source.REST),
    ]
    assert rechecked(versions) == [Window(JANUARY, minutes(15, 16))]


def test_no_vote_is_asked_for_where_the_archive_has_no_daily_files() -> None:
    weekly = Partition(series(Interval.W1), "2024")
    monday = Span(utc_ms(2024, 1, 8), utc_ms(2024, 1, 15))
    versions = [
        SourceRows(source, monday, frame([monday.start_ms], price=str(n)))
        for n, source in enumerate((Source.MONTHLY, Source.REST))
    ]
    assert rechecked(versions, partition=weekly) == []


def test_a_dispute_with_what_is_held_alone_costs_no_daily_file() -> None:
    versions = [source_rows(Source.MONTHLY), source_rows(Source.REST)]
    assert rechecked(versions, held=frame(opens(TEN), price="7")) == []


def test_a_row_off_the_calendar_does_not_hide_a_gap() -> None:
    span = Span(JANUARY_MS + 30_000, JANUARY_MS + 10 * MINUTE_MS)
    times = [JANUARY_MS + 45_000, *(JANUARY_MS + n * MINUTE_MS for n in range(1, 10) if n != 5)]
    gone = Span(JANUARY_MS + 5 * MINUTE_MS, JANUARY_MS + 6 * MINUTE_MS)
    assert missing_in(MINUTES, SourceRows(Source.MONTHLY, span, frame(times))) == [gone]

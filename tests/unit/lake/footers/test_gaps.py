"""Gaps: the parts of some time in which the calendar has rows and there are none."""

from __future__ import annotations

import pytest

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS, utc_ms
from klinefleet.workers.lake.footers.proof import gaps_in
from tests.unit.helpers.klines import JANUARY_MS, MINUTES, frame, minutes, opens

TEN = minutes(0, 10)
NONE = no_rows(KLINES)


def series(interval: Interval) -> Series:
    return Series(Market.USD_M, KLINES, interval, "BTCUSDT")


def test_where_every_minute_has_a_row_there_is_no_gap() -> None:
    assert gaps_in(MINUTES, frame(opens(TEN)), TEN) == []
    assert gaps_in(MINUTES, frame(opens(TEN)), Span(TEN.start_ms, TEN.start_ms)) == []


def test_gaps_are_told_in_runs_and_to_the_edges() -> None:
    rows = frame([*opens(minutes(2, 4)), *opens(minutes(5, 9))])
    assert gaps_in(MINUTES, rows, TEN) == [minutes(0, 2), minutes(4, 5), minutes(9, 10)]
    assert gaps_in(MINUTES, NONE, TEN) == [TEN]


def test_a_row_that_opened_off_its_minute_stands_for_that_minute() -> None:
    late = [at + 137 if n == 4 else at for n, at in enumerate(opens(TEN))]
    assert gaps_in(MINUTES, frame(late), TEN) == []


def test_time_that_ends_within_a_candle_has_no_gap_beyond_its_end() -> None:
    span = Span(TEN.start_ms, TEN.end_ms - 30_000)
    assert gaps_in(MINUTES, NONE, span) == [span]


def test_time_in_which_no_candle_opens_has_no_gap() -> None:
    sunday = Span(utc_ms(2024, 3, 2), utc_ms(2024, 3, 4))
    assert gaps_in(series(Interval.W1), NONE, sunday) == []


def test_events_have_no_calendar_and_so_no_gaps() -> None:
    assert gaps_in(series(Interval.EVENTS), NONE, TEN) == []


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
    assert gaps_in(series(interval), rows, year) == [lost]


def test_a_row_off_the_calendar_does_not_hide_a_gap() -> None:
    span = Span(JANUARY_MS + 30_000, JANUARY_MS + 10 * MINUTE_MS)
    times = [JANUARY_MS + 45_000, *(JANUARY_MS + n * MINUTE_MS for n in range(1, 10) if n != 5)]
    gone = Span(JANUARY_MS + 5 * MINUTE_MS, JANUARY_MS + 6 * MINUTE_MS)
    assert gaps_in(MINUTES, frame(times), span) == [gone]

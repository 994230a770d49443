from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.tasks.coverage.holes import (
    MissingSpan,
    Outage,
    Reason,
    find_holes,
    find_outages,
    trading_span,
)
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS, NEVER_MS, utc_ms
from klinefleet.workers.lake.coverage import HeldTime
from tests.unit.helpers.klines import MINUTES, minutes

ALWAYS = Span(0, NEVER_MS)
HOUR = minutes(0, 60)


def reasons(
    requested: Span,
    covered: Iterable[Span],
    gaps: Iterable[Span] = (),
    trading: Span = ALWAYS,
    outages: Iterable[Outage] = (),
    notes: Iterable[MissingSpan] = (),
    unconfirmed: Iterable[Span] = (),
) -> list[tuple[Span, Reason]]:
    found = find_holes(
        MINUTES,
        requested,
        HeldTime(list(covered), list(gaps), list(unconfirmed)),
        trading,
        list(outages),
        list(notes),
    )
    return [(hole.span, hole.reason) for hole in found]


def test_what_is_whole_has_no_hole() -> None:
    assert reasons(HOUR, [minutes(0, 100)]) == []


def test_time_before_listing_and_after_the_end_is_never_called_missing() -> None:
    trading = minutes(10, 50)
    assert reasons(HOUR, [trading], trading=trading) == [
        (minutes(0, 10), Reason.BEFORE_LISTING),
        (minutes(50, 60), Reason.AFTER_END),
    ]
    assert reasons(HOUR, [], trading=minutes(70, 80)) == [(HOUR, Reason.BEFORE_LISTING)]
    assert reasons(HOUR, [], trading=Span(0, HOUR.start_ms)) == [(HOUR, Reason.AFTER_END)]


def test_a_minute_that_was_answered_without_a_candle_is_not_called_unfetched() -> None:
    assert reasons(HOUR, [minutes(0, 30)], [minutes(5, 6)]) == [
        (minutes(5, 6), Reason.NO_CANDLE),
        (minutes(30, 60), Reason.NOT_FETCHED),
    ]


def test_a_gap_that_is_wider_than_the_outage_of_all_is_only_as_far_the_exchanges() -> None:
    outages = [Outage(minutes(10, 20), 4, 5)]
    assert reasons(HOUR, [HOUR], [minutes(8, 22)], outages=outages) == [
        (minutes(8, 10), Reason.NO_CANDLE),
        (minutes(10, 20), Reason.OUTAGE),
        (minutes(20, 22), Reason.NO_CANDLE),
    ]


def test_what_was_never_asked_for_during_an_outage_is_not_fetched_rather_than_known() -> None:
    outages = [Outage(minutes(10, 20), 4, 5)]
    assert reasons(HOUR, [minutes(0, 15)], [minutes(10, 15)], outages=outages) == [
        (minutes(10, 15), Reason.OUTAGE),
        (minutes(15, 60), Reason.NOT_FETCHED),
    ]


def test_notes_of_runs_apply_to_missing_time_only() -> None:
    """A newer run has filled half of what failed; of the rest the first note stands."""
    notes = [
        MissingSpan(minutes(0, 40), Reason.FAILED, "run b: ServerFault: 500", "later"),
        MissingSpan(minutes(30, 50), Reason.BEING_FETCHED, "run c is fetching it"),
    ]
    found = find_holes(MINUTES, HOUR, HeldTime([minutes(0, 20)], []), ALWAYS, [], notes)
    assert found == [
        MissingSpan(minutes(20, 40), Reason.FAILED, "run b: ServerFault: 500", "later"),
        MissingSpan(minutes(40, 50), Reason.BEING_FETCHED, "run c is fetching it"),
        MissingSpan(minutes(50, 60), Reason.NOT_FETCHED),
    ]


def test_gaps_of_neighbouring_partitions_are_one_hole() -> None:
    held = HeldTime([HOUR], [minutes(10, 20), minutes(20, 30)])
    assert [hole.span for hole in find_holes(MINUTES, HOUR, held, ALWAYS, [], [])] == [
        minutes(10, 30)
    ]


def test_time_in_which_no_candle_opens_is_no_hole() -> None:
    """The first days of 2024 before its first week began."""
    weekly = Series(Market.USD_M, KLINES, Interval.W1, "BTCUSDT")
    requested = Span(utc_ms(2023, 12, 25), utc_ms(2024, 1, 8))
    covered = [
        Span(utc_ms(2023, 12, 25), utc_ms(2023, 12, 30)),
        Span(utc_ms(2024, 1, 1), utc_ms(2024, 1, 8)),
    ]
    assert find_holes(weekly, requested, HeldTime(covered, []), ALWAYS, [], []) == []


@pytest.mark.parametrize(
    ("missing", "alive", "is_outage"), [(2, 2, False), (3, 3, True), (3, 6, False), (4, 7, True)]
)
def test_only_what_most_of_at_least_three_series_miss_is_the_exchanges_outage(
    missing: int, alive: int, is_outage: bool
) -> None:
    group = [
        (HeldTime([HOUR], [minutes(5, 9)] if n < missing else []), ALWAYS) for n in range(alive)
    ]
    assert find_outages(group) == ([Outage(minutes(5, 9), missing, alive)] if is_outage else [])


def test_series_that_did_not_trade_or_were_not_asked_for_have_no_say_in_an_outage() -> None:
    lack = [(HeldTime([HOUR], [minutes(5, 9)]), ALWAYS)] * 3
    unlisted, unfetched = (
        (HeldTime([HOUR], []), minutes(20, 60)),
        (HeldTime([minutes(20, 60)], []), ALWAYS),
    )
    assert find_outages([*lack, *[unlisted] * 9, *[unfetched] * 9]) == [Outage(minutes(5, 9), 3, 3)]
    # A gap before a listing is no vote either.
    assert find_outages([(HeldTime([HOUR], [minutes(5, 9)]), minutes(20, 60))] * 5) == []


def test_an_outage_from_which_symbols_return_one_by_one_is_one_outage() -> None:
    group = [(HeldTime([HOUR], [minutes(5, 9 + n)]), ALWAYS) for n in range(4)]
    assert find_outages(group) == [Outage(minutes(5, 10), 4, 4)]


def test_a_life_is_as_long_as_its_rows_and_no_longer_than_the_exchange_has_any() -> None:
    """Catalog dates are whole days: rows widen the span, confirmed gaps narrow it."""
    known = minutes(10, 60)
    assert trading_span(HeldTime([minutes(10, 60)], [minutes(40, 60)]), known) == minutes(10, 40)
    assert trading_span(HeldTime([minutes(10, 60)], [minutes(10, 15)]), known) == minutes(15, 60)
    assert trading_span(HeldTime([minutes(0, 70)], []), known) == minutes(0, 70)
    assert trading_span(HeldTime([minutes(20, 50)], [minutes(20, 25)]), known) == known, (
        "what was not requested proves nothing"
    )
    assert trading_span(HeldTime([], []), known) == known
    still = Span(known.start_ms, NEVER_MS)
    assert trading_span(HeldTime([minutes(10, 60)], [minutes(40, 60)]), still) == still, (
        "one that trades may trade again"
    )
    assert trading_span(HeldTime([minutes(0, 60)], [minutes(0, 5)]), None) == ALWAYS


SPANS = st.lists(
    st.builds(
        lambda start, length: minutes(start, start + length),
        st.integers(0, 300),
        st.integers(1, 60),
    )
)
REASONS = st.sampled_from([Reason.FAILED, Reason.NOT_PUBLISHED, Reason.BEING_FETCHED])


@settings(max_examples=200, deadline=None)
@given(
    SPANS,
    SPANS,
    SPANS,
    SPANS,
    REASONS,
    st.integers(0, 200),
    st.integers(1, 200),
    st.integers(0, 200),
)
def test_holes_and_rows_are_together_all_that_was_asked_for_and_no_minute_is_told_twice(
    covered: list[Span],
    silent: list[Span],
    outages: list[Span],
    notes: list[Span],
    reason: Reason,
    start: int,
    length: int,
    listed: int,
) -> None:
    held = HeldTime(spans.union(covered), spans.both(covered, silent))
    requested, known = minutes(start, start + length), minutes(listed, 250)
    trading = trading_span(held, known)
    with_series = [Outage(span, 3, 4) for span in spans.union(outages)]
    found = find_holes(
        MINUTES,
        requested,
        held,
        trading,
        with_series,
        [MissingSpan(span, reason) for span in notes],
    )
    parts = sorted([*(hole.span for hole in found), *spans.clip(held.present, requested)])
    assert sum(part.end_ms - part.start_ms for part in parts) == length * MINUTE_MS
    assert spans.union(parts) == [requested]
    assert all(
        hole.reason not in (Reason.OUTAGE, Reason.NO_CANDLE)
        or not spans.without([hole.span], covered)
        for hole in found
    )

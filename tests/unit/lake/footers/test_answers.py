"""Answers in a footer: each moment keeps its origin, and each gap keeps all of its witnesses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import SOURCES, Source, source_named
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footers.answers import (
    MAX_ANSWERS,
    Answer,
    origins,
    trimmed,
    unconfirmed,
)
from tests.unit.helpers.klines import minutes

#: Moments that answers speak of, one a millisecond.
MOMENTS = range(40)
WHOLE = Span(MOMENTS.start, MOMENTS.stop)


def answer(span: Span, source: Source = Source.REST, asked_ms: int = 1) -> Answer:
    """An answer; an archive file is named for when it was asked: editions are never alike."""
    if not source.is_archive:
        return Answer(span, source, asked_ms)
    return Answer(span, source, asked_ms, f"etag {asked_ms}", f"content {asked_ms}")


short = st.builds(
    lambda start, length: Span(start, min(start + length, MOMENTS.stop)),
    st.sampled_from(MOMENTS),
    st.integers(1, 15),
)
sources = st.sampled_from([*SOURCES.values(), source_named("websocket")])
several = st.lists(st.builds(answer, short, sources, st.integers(0, 5)), max_size=8)
moments = st.sets(st.sampled_from(MOMENTS))


def covered(answers: Iterable[Answer]) -> list[Span]:
    return spans.union(one.span for one in answers)


def gaps(answers: Iterable[Answer], rows: set[int]) -> list[Span]:
    """The parts of the covered time without a row."""
    return spans.without(covered(answers), [Span(at, at + 1) for at in rows])


def told_at(answers: Iterable[Answer], at: int) -> set[tuple[str, int, str]]:
    """Who speaks of a moment."""
    return {
        (one.source.name, one.asked_ms, one.etag)
        for one in answers
        if one.span.start_ms <= at < one.span.end_ms
    }


def latest_at(answers: Sequence[Answer], at: int) -> set[tuple[str, int, str]]:
    """Who was asked last of a moment: of several at once the one that is trusted most."""
    told = [one for one in answers if one.span.start_ms <= at < one.span.end_ms]
    if not told:
        return set()
    last = max(told, key=lambda one: (one.asked_ms, one.source.trust, one.source.name))
    return {(last.source.name, last.asked_ms, last.etag)}


@settings(max_examples=150)
@given(several, moments, st.randoms(use_true_random=False))
def test_the_order_in_which_answers_come_never_shows(
    answers: list[Answer], rows: set[int], random: Random
) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)
    found = gaps(answers, rows)
    assert trimmed(shuffled, found) == trimmed(answers, found)


@settings(max_examples=150)
@given(several, moments)
def test_trimming_twice_is_trimming_once(answers: list[Answer], rows: set[int]) -> None:
    found = gaps(answers, rows)
    once = trimmed(answers, found)
    assert trimmed(once, found) == once
    assert list(once) == sorted(once)


@settings(max_examples=200)
@given(several, several, moments, moments)
def test_answers_that_come_later_are_joined_as_if_all_had_come_at_once(
    first: list[Answer], later: list[Answer], rows: set[int], more_rows: set[int]
) -> None:
    """The later ones may bring rows where the first ones had gaps; none goes away."""
    every = [*first, *later]
    found = gaps(every, rows | more_rows)
    assert trimmed([*trimmed(first, gaps(first, rows)), *later], found) == trimmed(every, found)


@settings(max_examples=200)
@given(several, moments)
def test_a_row_keeps_its_origin_alone_and_a_gap_all_of_its_witnesses(
    answers: list[Answer], rows: set[int]
) -> None:
    kept = trimmed(answers, gaps(answers, rows))
    for at in MOMENTS:
        expected = latest_at(answers, at) if at in rows else told_at(answers, at)
        assert told_at(kept, at) == expected, at
    assert covered(kept) == covered(answers)


@settings(max_examples=150)
@given(several, moments)
def test_origins_tell_of_each_covered_moment_once_who_was_asked_last(
    answers: list[Answer], rows: set[int]
) -> None:
    for told in (answers, trimmed(answers, gaps(answers, rows))):
        found = origins(told)
        assert covered(found) == covered(answers)
        assert all(one.span.end_ms <= other.span.start_ms for one, other in pairwise(found))
        assert all(told_at(found, at) == latest_at(answers, at) for at in MOMENTS)


def test_a_file_is_the_origin_but_where_rest_was_asked_after_it() -> None:
    monthly = answer(minutes(0, 100), Source.MONTHLY, 1)
    rest = answer(minutes(40, 50), Source.REST, 2)
    later = answer(minutes(90, 120), Source.DAILY, 3)
    assert origins([rest, later, monthly]) == [
        answer(minutes(0, 40), Source.MONTHLY, 1),
        rest,
        answer(minutes(50, 90), Source.MONTHLY, 1),
        later,
    ]


def test_an_older_answer_stays_just_where_there_is_no_row() -> None:
    monthly = answer(minutes(0, 100), Source.MONTHLY, 1)
    rest = answer(minutes(40, 60), Source.REST, 2)
    assert trimmed([rest, monthly], [minutes(45, 47)]) == (
        answer(minutes(0, 40), Source.MONTHLY, 1),
        rest,
        answer(minutes(45, 47), Source.MONTHLY, 1),
        answer(minutes(60, 100), Source.MONTHLY, 1),
    )


def test_editions_of_a_file_are_one_witness_and_each_call_of_rest_is_one() -> None:
    gap = minutes(10, 12)
    editions = [answer(minutes(0, 60), Source.MONTHLY, asked_ms) for asked_ms in (1, 2, 3)]
    calls = [answer(minutes(5, 20), Source.REST, asked_ms) for asked_ms in (4, 5)]
    assert unconfirmed(editions, [gap]) == [gap]
    assert unconfirmed(calls[:1], [gap]) == [gap]
    assert unconfirmed(calls, [gap]) == []
    assert unconfirmed([*editions, calls[0]], [gap]) == []


def test_an_answer_for_a_part_of_a_gap_is_no_witness_of_it() -> None:
    gap = minutes(10, 12)
    halves = [answer(minutes(0, 11)), answer(minutes(11, 60), asked_ms=2)]
    assert unconfirmed(halves, [gap]) == [gap]
    assert unconfirmed([*halves, answer(minutes(11, 20), asked_ms=3)], [gap]) == [minutes(10, 11)]
    assert unconfirmed([], [gap]) == [gap]


def test_a_source_that_covers_only_what_it_saw_is_no_witness() -> None:
    gap = minutes(10, 12)
    assert unconfirmed([answer(gap, source_named("stream")), answer(gap)], [gap]) == [gap]


@settings(max_examples=200)
@given(several, moments)
def test_what_two_speak_of_is_confirmed_moment_by_moment(
    answers: list[Answer], rows: set[int]
) -> None:
    found = gaps(answers, rows)
    left = unconfirmed(answers, found)
    assert unconfirmed(trimmed(answers, found), found) == left
    for at in MOMENTS:
        speaking = {
            (one.source, 0 if one.source.is_archive else one.asked_ms)
            for one in answers
            if one.source.is_witness and one.span.start_ms <= at < one.span.end_ms
        }
        is_gap = bool(spans.clip(found, Span(at, at + 1)))
        assert bool(spans.clip(left, Span(at, at + 1))) == (is_gap and len(speaking) < 2)


def hourly(count: int, *, first: int = 0) -> list[Answer]:
    """What REST said hour by hour, each hour asked when it was over."""
    return [
        answer(minutes(n * 60, n * 60 + 60), Source.REST, n + 1)
        for n in range(first, first + count)
    ]


def test_as_many_answers_as_a_footer_lists_are_kept_one_by_one() -> None:
    answers = hourly(MAX_ANSWERS)
    assert list(trimmed(answers, [])) == answers


def test_more_answers_than_a_footer_lists_are_joined_and_cover_the_same_time() -> None:
    answers = hourly(MAX_ANSWERS + 1)
    whole = minutes(0, len(answers) * 60)
    assert trimmed(answers, []) == (answer(whole, Source.REST, len(answers)),)
    assert trimmed(answers[::-1], []) == trimmed(answers, [])


def test_where_answers_are_joined_time_that_was_not_asked_for_stays_open() -> None:
    answers = [*hourly(200), *hourly(200, first=300)]
    kept = trimmed(answers, [])
    assert [one.span for one in kept] == covered(answers)


def test_where_answers_are_joined_a_gap_keeps_its_witnesses() -> None:
    """A joined answer would say that one call had spoken of all of it."""
    gap = minutes(60 * 70 + 55, 60 * 71 + 5)
    answers = [*hourly(MAX_ANSWERS + 40), answer(minutes(60 * 69, 60 * 73), Source.DAILY, 10**6)]
    kept = trimmed(answers, [gap])
    assert len(kept) < 10
    assert covered(kept) == covered(answers)
    assert unconfirmed(kept, [gap]) == unconfirmed(answers, [gap]) == []
    hours = [one for one in answers if one.source == Source.REST]
    assert unconfirmed(trimmed(hours, [gap]), [gap]) == [gap]


def test_answers_of_different_sources_are_never_joined_to_one() -> None:
    """Rows of REST must not pass for rows of a file."""
    answers = [
        answer(minutes(n, n + 1), Source.REST if n % 2 else Source.DAILY, n + 1)
        for n in range(MAX_ANSWERS + 44)
    ]
    assert list(trimmed(answers, [])) == answers


@settings(max_examples=30)
@given(st.sets(st.integers(0, 600), max_size=12), st.sampled_from([1, 2]))
def test_joined_answers_are_joined_once_and_cover_the_same_time(
    holes: set[int], asked: int
) -> None:
    answers = [
        answer(minutes(n, n + 1), Source.REST, asked_ms)
        for n in range(600)
        for asked_ms in range(n + 1, n + 1 + asked)
    ]
    found = spans.union(minutes(n, n + 1) for n in holes if n < 600)
    kept = trimmed(answers, found)
    assert trimmed(kept, found) == kept
    assert trimmed(reversed(answers), found) == kept
    assert covered(kept) == covered(answers)
    assert spans.without(unconfirmed(kept, found), unconfirmed(answers, found)) == []
    assert len(kept) <= 4 * len(holes) + 2

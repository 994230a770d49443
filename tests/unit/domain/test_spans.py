"""Spans held against sets of integers, which cannot be wrong."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.spans import Span

any_span = st.builds(Span, st.integers(0, 60), st.integers(0, 60))
any_spans = st.lists(any_span, max_size=8)


def moments(several: list[Span]) -> set[int]:
    return {at for span in several for at in range(span.start_ms, span.end_ms)}


def are_fewest(several: list[Span]) -> bool:
    """Oldest first, none empty, and none that touches the next."""
    return not any(s.is_empty for s in several) and all(
        a.end_ms < b.start_ms for a, b in itertools.pairwise(several)
    )


@given(any_spans)
def test_union_neither_loses_nor_adds_a_moment(several: list[Span]) -> None:
    assert moments(spans.union(several)) == moments(several)
    assert are_fewest(spans.union(several))


@given(any_spans, any_span)
def test_gaps_are_exactly_what_is_wanted_and_not_held(held: list[Span], wanted: Span) -> None:
    missing = spans.gaps(held, wanted)
    assert moments(missing) == moments([wanted]) - moments(held)
    assert are_fewest(missing)


@given(any_spans, any_span)
def test_clip_is_exactly_what_lies_inside(several: list[Span], bounds: Span) -> None:
    inside = spans.clip(several, bounds)
    assert moments(inside) == moments(several) & moments([bounds])
    assert are_fewest(inside)


@given(any_spans, any_span)
def test_what_is_held_and_what_is_missing_make_up_what_is_wanted(
    held: list[Span], wanted: Span
) -> None:
    whole = [*spans.clip(held, wanted), *spans.gaps(held, wanted)]
    assert spans.union(whole) == spans.union([wanted])
    assert sum(s.end_ms - s.start_ms for s in whole) == max(0, wanted.end_ms - wanted.start_ms)


def test_a_generator_of_spans_is_read_once_and_whole() -> None:
    assert spans.union(Span(n, n + 1) for n in range(5)) == [Span(0, 5)]
    assert spans.gaps((Span(n, n + 1) for n in (1, 3)), Span(0, 5)) == [
        Span(0, 1),
        Span(2, 3),
        Span(4, 5),
    ]

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.limits.concurrency import AdaptiveLimit
from tests.unit.helpers.limited_threads import LimitedThreads


class Clock:
    """A clock in seconds that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(width: int, clock: Clock, most: int = 100, *, rtt_ms: float = 100) -> AdaptiveLimit:
    """A limit that good answers have opened so wide, still doubling."""
    limit = AdaptiveLimit(most, clock)
    while limit.width < width:
        limit.record_success(rtt_ms=rtt_ms)
    assert limit.width == width
    return limit


@pytest.mark.parametrize(("most", "width"), [(1, 1), (3, 3), (4, 4), (1000, 4)])
def test_it_opens_from_a_few_calls_and_never_beyond_the_most(most: int, width: int) -> None:
    assert AdaptiveLimit(most).width == width


def test_it_doubles_every_round_trip_while_nothing_gets_slower() -> None:
    limit = AdaptiveLimit(50, Clock())
    for width in (8, 16, 32, 50, 50):
        for _ in range(limit.width):
            limit.record_success(rtt_ms=100)
        assert limit.width == width


def test_after_its_first_jam_it_widens_by_one_a_round_trip() -> None:
    clock = Clock()
    limit = opened(20, clock)
    limit.record_failure()
    assert limit.width == 14
    for width in (14, 15, 16, 17):
        for _ in range(15):
            limit.record_success(rtt_ms=100)
        assert width <= limit.width <= width + 1


def test_slower_answers_narrow_it_by_a_third_once_a_round_trip() -> None:
    clock = Clock()
    limit = opened(20, clock)
    for _ in range(40):
        limit.record_success(rtt_ms=2000)
    assert limit.width in (14, 15, 16)
    narrowed = limit.width
    clock.now += 2.1
    limit.record_success(rtt_ms=2000)
    assert limit.width == int(narrowed * 0.7)


def test_one_slow_answer_among_quick_ones_does_not_narrow_it() -> None:
    limit = opened(20, Clock())
    limit.record_success(rtt_ms=1000)
    assert limit.width == 21


@pytest.mark.parametrize("rtt_ms", [1, 20, 40])
def test_differences_as_small_as_chance_do_not_narrow_it(rtt_ms: int) -> None:
    limit = opened(20, Clock(), rtt_ms=1)
    for _ in range(200):
        limit.record_success(rtt_ms=rtt_ms)
    assert limit.width == 100


def test_a_burst_of_failures_narrows_it_once() -> None:
    clock = Clock()
    limit = opened(20, clock)
    for _ in range(19):
        limit.record_failure()
    assert limit.width == 14
    clock.now += 0.099
    limit.record_failure()
    assert limit.width == 14
    clock.now += 0.002
    limit.record_failure()
    assert limit.width == 9


def test_failures_without_end_leave_one_call_through_to_ask() -> None:
    clock = Clock()
    limit = opened(20, clock)
    for _ in range(50):
        clock.now += 1
        limit.record_failure()
    assert limit.width == 1
    limit.record_success(rtt_ms=100)
    assert limit.width == 2


def test_failures_before_the_first_answer_narrow_it_too() -> None:
    clock = Clock()
    limit = AdaptiveLimit(50, clock)
    limit.record_failure()
    assert limit.width == 2
    limit.record_success(rtt_ms=100)
    assert limit.width == 3


def test_a_longer_road_is_not_taken_for_a_jam_for_ever() -> None:
    clock = Clock()
    limit = opened(20, clock, rtt_ms=50)
    widths = []
    for _ in range(4000):
        clock.now += 0.5
        limit.record_success(rtt_ms=400)
        widths.append(limit.width)
    assert min(widths) == 1
    assert widths[-1] > 20


events = st.lists(
    st.one_of(
        st.tuples(st.just("failed"), st.just(0.0)),
        st.tuples(st.just("answered"), st.floats(0, 60_000)),
        st.tuples(st.just("passed"), st.floats(0, 100)),
    ),
    max_size=80,
)


@settings(max_examples=200)
@given(most=st.integers(1, 100), history=events)
def test_errors_never_widen_it_whatever_came_before(
    most: int, history: list[tuple[str, float]]
) -> None:
    clock = Clock()
    limit = AdaptiveLimit(most, clock)
    for what, number in history:
        before = limit.width
        if what == "failed":
            limit.record_failure()
            assert limit.width <= before
        elif what == "answered":
            limit.record_success(rtt_ms=number)
            assert limit.width <= before + 1
        else:
            clock.now += number
        assert 1 <= limit.width <= most


def test_it_never_lets_more_than_its_width_through_and_loses_nobody() -> None:
    threads = LimitedThreads(AdaptiveLimit(3), 20)
    for gone in range(1, 21):
        threads.release()
        threads.until(served=gone)
    for thread in threads.threads:
        thread.join(60)
    assert (threads.served, threads.inside) == (20, 0)
    assert threads.highest <= 3


def test_each_good_answer_wakes_one_who_waits() -> None:
    limit = AdaptiveLimit(10, Clock())
    threads = LimitedThreads(limit, 10)
    threads.until(inside=4)
    for inside in range(5, 11):
        limit.record_success(rtt_ms=100)
        threads.until(inside=inside)
    threads.release(10)
    threads.until(inside=0, served=10)

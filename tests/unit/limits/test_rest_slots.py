from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.limits.concurrency import (
    FEW_CALLS,
    HEADROOM,
    LATE_MS,
    RestSlots,
    useful_concurrency,
)
from tests.unit.helpers.limited_threads import LimitedThreads

BUSY = 10**9


def useful_calls(**changed: float) -> int:
    """Return the useful calls in flight with 2,400 weight a minute and 280 ms a round trip."""
    known = {
        "rtt_ms": 280,
        "weight": 2,
        "left": 2400,
        "minute_left_ms": 60_000,
        "backlog": BUSY,
        "sharers": 1,
    }
    return useful_concurrency(**(known | {"max_width": 1000} | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "calls"),
    [
        ({}, 5.6),
        ({"weight": 10}, 1.12),
        ({"left": 1200, "minute_left_ms": 30_000}, 5.6),
        ({"sharers": 4}, 1.4),
        ({"left": 1200, "minute_left_ms": 15_000}, 11.2),
        ({"left": 1200, "minute_left_ms": 15_000, "sharers": 2}, 5.6),
    ],
)
def test_the_calls_in_flight_are_those_of_littles_law(
    changed: dict[str, float], calls: float
) -> None:
    """2400 weight a minute at weight 2 are 20 calls a second, so 5.6 in 280 ms."""
    assert 0 <= useful_calls(**changed) - calls * HEADROOM <= 2


@pytest.mark.parametrize("changed", [{"left": 3200}, {"rtt_ms": 390}, {"minute_left_ms": 44_000}])
def test_headroom_never_makes_more_calls_in_flight_than_may_be_refused(
    changed: dict[str, float],
) -> None:
    assert useful_calls(**changed) == FEW_CALLS


@pytest.mark.parametrize("changed", [{"left": 6000}, {"rtt_ms": 1000}, {"minute_left_ms": 30_000}])
def test_what_few_calls_cannot_spend_in_time_is_spent_early_so_that_they_can_spend_the_rest(
    changed: dict[str, float],
) -> None:
    left, left_ms = changed.get("left", 2400.0), changed.get("minute_left_ms", 60_000.0)
    rtt_ms = changed.get("rtt_ms", 280.0)
    while left > 0 and left_ms > LATE_MS:
        calls = useful_calls(rtt_ms=rtt_ms, left=left, minute_left_ms=left_ms, max_width=100)
        left, left_ms = left - 2 * calls, left_ms - rtt_ms
    assert left > 0
    assert calls <= FEW_CALLS


def test_all_that_fits_into_the_minute_goes_out_at_once() -> None:
    assert useful_calls(backlog=2400, max_width=50) == 50
    assert useful_calls(backlog=2401, max_width=50) < 50


def test_a_spent_minute_still_lets_one_through_to_ask() -> None:
    assert useful_calls(left=0) == 1


def test_the_last_moments_of_a_minute_do_not_make_the_number_infinite() -> None:
    assert useful_calls(minute_left_ms=0, left=100) == math.ceil(100 / 2 * HEADROOM)
    assert useful_calls(minute_left_ms=0, rtt_ms=0, left=100, sharers=0) == 1


@settings(max_examples=200)
@given(
    rtt_ms=st.floats(0, 60_000),
    weight=st.integers(1, 20),
    left=st.floats(0, 6000),
    minute_left_ms=st.floats(0, 60_000),
    backlog=st.floats(0, 10**7),
    sharers=st.integers(0, 100),
    max_width=st.integers(1, 1000),
)
def test_no_measurement_asks_for_none_or_for_more_than_the_most(**known: float) -> None:
    assert 1 <= useful_concurrency(**known) <= known["max_width"]  # type: ignore[arg-type]


@settings(max_examples=200)
@given(
    st.sampled_from(["rtt_ms", "left"]),
    st.floats(1, 5000),
    st.floats(1, 5000),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_slower_answers_and_more_weight_never_want_fewer_calls_and_sharers_never_more(
    name: str, a: float, b: float, one: int, more: int
) -> None:
    assert useful_calls(**{name: min(a, b)}) <= useful_calls(**{name: max(a, b)})
    assert useful_calls(sharers=max(one, more)) <= useful_calls(sharers=min(one, more))


def answer(
    slots: RestSlots, *, rtt_ms: int = 280, left: int = 2400, minute_left_ms: int = 60_000
) -> None:
    slots.record_success(rtt_ms=rtt_ms, weight=2, left=left, minute_left_ms=minute_left_ms)


def test_the_first_answer_is_the_average_and_later_ones_move_it_slowly() -> None:
    slots = RestSlots(50)
    assert slots.rtt_ms is None
    answer(slots, rtt_ms=100)
    assert slots.rtt_ms == 100
    answer(slots, rtt_ms=1100)
    assert slots.rtt_ms == 200


def test_what_waits_here_counts_even_without_a_plan() -> None:
    slots = RestSlots(50)
    with slots.queued(1500), slots.queued(1500):
        answer(slots)
        assert slots.width == useful_calls(max_width=50)
    answer(slots)
    assert slots.width == 50


def test_what_waits_elsewhere_and_how_many_share_it_narrows_the_gate() -> None:
    slots = RestSlots(50)
    slots.set_demand(BUSY, 4)
    answer(slots)
    assert slots.width == useful_calls(sharers=4)


def test_weight_stops_waiting_even_where_its_task_fails() -> None:
    slots = RestSlots(50)
    with pytest.raises(RuntimeError), slots.queued(BUSY):
        raise RuntimeError
    answer(slots)
    assert slots.width == 50


events = st.lists(
    st.one_of(
        st.tuples(st.just("failed")),
        st.tuples(
            st.just("answered"),
            st.integers(1, 20_000),
            st.integers(0, 6000),
            st.integers(0, 60_000),
        ),
        st.tuples(st.just("demand"), st.floats(0, 10**6), st.integers(1, 50)),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(most=st.integers(1, 100), history=events)
def test_errors_never_widen_the_gate_whatever_came_before(
    most: int, history: list[tuple[object, ...]]
) -> None:
    slots = RestSlots(most)
    for what, *how in history:
        before = slots.width
        if what == "failed":
            slots.record_failure()
            assert slots.width == max(1, before - 1)
        elif what == "answered":
            rtt_ms, left, minute_left_ms = how
            answer(slots, rtt_ms=rtt_ms, left=left, minute_left_ms=minute_left_ms)  # type: ignore[arg-type]
        else:
            slots.set_demand(*how)  # type: ignore[arg-type]
            assert slots.width == before
        assert 1 <= slots.width <= most


def narrow(slots: RestSlots, width: int) -> None:
    while slots.width > width:
        slots.record_failure()


def test_the_gate_never_lets_more_than_its_width_through_and_loses_nobody() -> None:
    slots = RestSlots(8)
    narrow(slots, 3)
    threads = LimitedThreads(slots, 20)
    for gone in range(1, 21):
        threads.release()
        threads.until(served=gone)
    for thread in threads.threads:
        thread.join(60)
    assert (threads.served, threads.inside) == (20, 0)
    assert threads.highest <= 3


def test_a_gate_that_widens_wakes_those_who_wait() -> None:
    slots = RestSlots(10)
    narrow(slots, 1)
    threads = LimitedThreads(slots, 10)
    threads.until(inside=1)
    answer(slots)
    threads.until(inside=10)
    threads.release(10)
    threads.until(inside=0, served=10)

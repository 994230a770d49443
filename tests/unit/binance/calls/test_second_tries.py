"""A call that is answered late is made again: the first answer counts, and the others end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from klinefleet.workers.binance.calls.clock import CallClock
from klinefleet.workers.binance.calls.second_tries import MOST_TRIES, SecondTries
from klinefleet.workers.domain.errors import ServerFault, Unreachable
from tests.processes import until

#: No test waits so long: it is a bound of what would hang.
TIMEOUT_S = 60.0


def new_clock() -> CallClock:
    return CallClock(TIMEOUT_S)


@pytest.fixture
def tries() -> SecondTries:
    return SecondTries(late_at_first_s=0.01, late_after_s=0.01)


def never() -> Callable[[CallClock], str]:
    """Return a call that is not answered, and ends when it is cut."""

    def ask(clock: CallClock) -> str:
        until("the call is cut", lambda: clock.is_cut)
        raise Unreachable("cut")

    return ask


def unasked(_: CallClock) -> str | None:
    raise AssertionError("a call that is not late is made once")


def test_a_call_that_is_answered_in_time_is_made_once() -> None:
    patient = SecondTries(late_at_first_s=TIMEOUT_S)
    assert patient.first_answer(lambda _: "first", unasked, new_clock) == "first"
    with pytest.raises(ServerFault):
        patient.first_answer(_fault, unasked, new_clock)


def _fault(_: CallClock) -> str:
    raise ServerFault("500")


def test_the_answer_to_a_second_try_ends_the_first(tries: SecondTries) -> None:
    assert tries.first_answer(never(), lambda _: "second", new_clock) == "second"


def test_the_answer_to_the_first_try_ends_the_second(tries: SecondTries) -> None:
    begun, cut = threading.Event(), threading.Event()

    def first(_: CallClock) -> str:
        assert begun.wait(TIMEOUT_S)
        return "first"

    def second(clock: CallClock) -> str | None:
        begun.set()
        until("the second try is cut", lambda: clock.is_cut)
        cut.set()
        raise Unreachable("cut")

    assert tries.first_answer(first, second, new_clock) == "first"
    assert cut.wait(TIMEOUT_S)


def test_a_first_try_that_fails_waits_for_the_second(tries: SecondTries) -> None:
    begun, failed = threading.Event(), threading.Event()

    def first(_: CallClock) -> str:
        assert begun.wait(TIMEOUT_S)
        failed.set()
        raise Unreachable("reset")

    def second(_: CallClock) -> str | None:
        begun.set()
        assert failed.wait(TIMEOUT_S)
        return "second"

    assert tries.first_answer(first, second, new_clock) == "second"


def test_where_every_try_fails_the_first_error_is_told_and_tries_are_bounded(
    tries: SecondTries,
) -> None:
    numbers, all_made = list[int](), threading.Event()

    def first(_: CallClock) -> str:
        assert all_made.wait(TIMEOUT_S)
        raise Unreachable("the first")

    def again(_: CallClock) -> str | None:
        numbers.append(1)
        if len(numbers) == MOST_TRIES:
            all_made.set()
        raise ServerFault("another")

    with pytest.raises(Unreachable, match="the first"):
        tries.first_answer(first, again, new_clock)
    assert len(numbers) == MOST_TRIES


def test_where_no_other_try_may_be_made_the_first_goes_on(tries: SecondTries) -> None:
    numbers, asked = list[int](), threading.Event()

    def first(_: CallClock) -> str:
        assert asked.wait(TIMEOUT_S)
        return "first"

    def denied(_: CallClock) -> str | None:
        numbers.append(1)
        if len(numbers) > 3 * MOST_TRIES:
            asked.set()
        return None

    assert tries.first_answer(first, denied, new_clock) == "first"


def test_many_late_calls_at_once_each_get_their_own_answer(tries: SecondTries) -> None:
    answers = dict[int, str]()

    def ask(number: int) -> None:
        answers[number] = tries.first_answer(never(), lambda _: f"second {number}", new_clock)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert answers == {number: f"second {number}" for number in range(40)}

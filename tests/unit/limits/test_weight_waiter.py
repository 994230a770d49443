from __future__ import annotations

from collections.abc import Callable

import pytest

from klinefleet.workers.domain.errors import OverWeight
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Grant, Wait
from klinefleet.workers.limits.weight_waiter import JITTER_MS, WeightWaiter
from klinefleet.workers.support.clock import ManualClock
from klinefleet.workers.support.stop_signal import StopSignal
from klinefleet.workers.support.threads import Threads
from tests.lua_budget import LuaBudget
from tests.processes import until

GRANT = Grant(weight=2, minute=1, at_ms=0, left=10, minute_left_ms=1000, rtt_ms=100)


class Scripted(LuaBudget):
    """A budget that gives scripted answers and records what it was asked."""

    def __init__(self, *answers: Grant | Wait) -> None:
        super().__init__(ManualClock())
        self.answers = list(answers)
        self.asked: list[tuple[int, int | None]] = []

    def take(self, weight: int, reservation: int | None = None) -> Grant | Wait:
        self.asked.append((weight, reservation))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class ManualStop(StopSignal):
    """A stop signal whose `wait` advances the clock instead of sleeping."""

    def __init__(self, clock: ManualClock, *, after_waits: int = 10**9) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []
        self._after_waits = after_waits

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.clock.sleep(seconds)
        return len(self.waits) > self._after_waits


def waiter(stop: ManualStop, **limits: float) -> WeightWaiter:
    """A waiter that measures time by the clock of its stop signal."""
    return WeightWaiter(stop, clock=lambda: stop.clock.now_ms() / 1000, **limits)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_weight_that_is_there_is_had_without_waiting(clock: ManualClock) -> None:
    stop = ManualStop(clock)
    assert waiter(stop).acquire(Scripted(GRANT), 2) == (GRANT, 0.0)
    assert stop.waits == []


def test_a_reservation_is_made_once_slept_for_once_and_used_when_it_comes(
    clock: ManualClock,
) -> None:
    stop, budget = ManualStop(clock), Scripted(Wait(20_000, 77), GRANT)
    grant, waited_s = waiter(stop).acquire(budget, 2)
    assert grant is GRANT
    assert budget.asked == [(2, None), (2, 77)]
    [pause] = stop.waits
    assert 20.0 <= pause <= 20.0 + JITTER_MS / 1000
    assert waited_s == pytest.approx(pause, abs=0.002)


def test_a_reservation_that_was_lost_is_not_used_again(clock: ManualClock) -> None:
    budget = Scripted(Wait(1000, 77), Wait(1000, None), GRANT)
    waiter(ManualStop(clock)).acquire(budget, 2)
    assert [reservation for _, reservation in budget.asked] == [None, 77, None]


@pytest.mark.parametrize("ms", [1, 50, 199, 200, 5000])
def test_a_pause_is_never_shorter_than_asked_and_hardly_longer(clock: ManualClock, ms: int) -> None:
    stop = ManualStop(clock)
    waiter(stop).acquire(Scripted(*[Wait(ms, None)] * 30, GRANT), 2)
    assert all(ms <= pause * 1000 <= ms + min(ms, JITTER_MS) for pause in stop.waits)
    assert len({round(pause, 9) for pause in stop.waits}) > 1


def test_a_long_ban_is_not_slept_through(clock: ManualClock) -> None:
    stop = ManualStop(clock)
    with pytest.raises(OverWeight, match=r"for 300\.1 s; the call was not sent"):
        waiter(stop, max_wait_s=300).acquire(Scripted(Wait(300_100, None)), 2)
    assert stop.waits == []


def test_a_closed_pool_is_left_to_others_though_a_full_minute_is_waited_out(
    clock: ManualClock,
) -> None:
    stop = ManualStop(clock)
    with pytest.raises(OverWeight, match=r"for 20\.0 s"):
        waiter(stop, max_closed_wait_s=15).acquire(Scripted(Wait(20_000, None, is_closed=True)), 2)
    assert stop.waits == []
    soon, full = Wait(9_000, None, is_closed=True), Wait(55_000, None)
    grant, waited_s = waiter(stop, max_closed_wait_s=15).acquire(Scripted(full, soon, GRANT), 2)
    assert grant is GRANT
    assert waited_s > 64


def test_many_short_waits_are_given_up_as_one_long_one(clock: ManualClock) -> None:
    stop = ManualStop(clock)
    with pytest.raises(OverWeight):
        waiter(stop, max_wait_s=300).acquire(Scripted(Wait(7_000, None)), 2)
    assert 280 <= sum(stop.waits) <= 300


def test_a_process_that_is_stopped_waits_no_longer_and_sends_nothing(clock: ManualClock) -> None:
    stop, budget = ManualStop(clock, after_waits=2), Scripted(Wait(1_000, None))
    with pytest.raises(OverWeight):
        waiter(stop).acquire(budget, 2)
    assert (len(stop.waits), len(budget.asked)) == (3, 3)


def test_a_real_stop_ends_a_real_wait_at_once() -> None:
    stop = StopSignal()
    stop.set()
    with pytest.raises(OverWeight):
        WeightWaiter(stop).acquire(Scripted(Wait(60_000, None)), 2)


def test_who_waits_for_the_next_minute_is_woken_when_the_pool_closes_and_leaves_it_to_others() -> (
    None
):
    stop, budget = StopSignal(), Scripted(Wait(60_000, 77), Wait(600_000, None, is_closed=True))
    with Threads(1) as threads:
        waiting = threads.submit(WeightWaiter(stop, max_closed_wait_s=15).acquire, budget, 2)
        until("it waits", lambda: budget.asked)
        until("it is woken", lambda: stop.wake() or waiting.done())
        with pytest.raises(OverWeight, match=r"for 600\.0 s"):
            waiting.result()
    assert budget.asked == [(2, None), (2, 77)]


def wound(do: Callable[[LuaBudget], None] = lambda _: None) -> tuple[LuaBudget, ManualClock]:
    """A budget that knows its clock and its limit of 100, two seconds into a minute."""
    start_ms = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS
    clock = ManualClock(start_ms)
    budget = LuaBudget(clock)
    grant = budget.take(1)
    assert isinstance(grant, Grant)
    budget.learn(grant, used=1, date_ms=start_ms, served=True, rtt_ms=1)
    budget.set_limit(100)
    clock.advance(2 * MINUTE_MS + 2_000)
    do(budget)
    return budget, clock


def test_a_real_budget_that_is_spent_is_waited_for_to_the_next_minute_and_no_longer() -> None:
    budget, clock = wound()
    while isinstance(grant := budget.take(2), Grant):
        budget.learn(grant, used=None, date_ms=None, served=True)
    stop = ManualStop(clock)
    grant, waited_s = waiter(stop).acquire(budget, 2)
    assert 57 <= waited_s <= 60.5
    assert len(stop.waits) == 1
    assert grant.minute == clock.now_ms() // MINUTE_MS


def test_a_pool_that_reopens_is_probed_by_one_and_then_open_to_the_rest() -> None:
    budget, clock = wound(lambda budget: budget.close_until(after_ms=5_000))
    probe, waited_s = waiter(ManualStop(clock)).acquire(budget, 2)
    assert 5.0 <= waited_s <= 5.2 + 0.01
    budget.learn(probe, used=2, date_ms=None, served=True, rtt_ms=10)
    assert waiter(ManualStop(clock)).acquire(budget, 2)[1] == 0

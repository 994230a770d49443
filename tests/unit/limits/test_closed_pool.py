"""A pool that the exchange has closed: for how long, and who tries first. No wait is endless."""

from __future__ import annotations

import pytest

from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, MINUTE_MS
from klinefleet.workers.limits.budget import Grant, Wait
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.support.clock import ManualClock
from tests.unit.helpers.budgets import (
    LIMIT,
    Maker,
    granted,
    ready,
    spend_all,
    waiting,
)


def test_a_closed_pool_answers_everybody_with_the_time_left(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    budget.close_until(after_ms=7_000)
    assert 7_000 <= waiting(budget.take(2)).ms <= 7_050


def test_a_ban_ends_by_the_exchanges_clock_not_by_ours(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock, skew_ms=-300_000)
    budget.close_until(at_ms=clock.now_ms() - 300_000 + 120_000)
    assert 120_000 <= waiting(budget.take(2)).ms <= 121_100


def test_a_429_without_retry_after_closes_to_the_next_minute(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    clock.advance(20_000 - clock.now_ms() % MINUTE_MS)
    budget.close_until()
    assert 40_000 <= waiting(budget.take(2)).ms <= 41_100


def test_only_a_wait_for_a_closed_pool_says_that_it_is_closed(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    spend_all(budget)
    assert not waiting(budget.take(2)).is_closed
    budget.close_until(after_ms=90_000)
    assert waiting(budget.take(2)).is_closed


def test_a_closed_pool_takes_a_reservation_back(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock, limit=100)
    spend_all(budget, 10, answered=True)
    reservation = waiting(budget.take(10)).reservation
    assert reservation is not None
    for _ in range(10):
        budget.take(10)
    assert waiting(budget.take(10)).reservation is None, "the next minute has room"
    budget.close_until(after_ms=1_000)
    wait = waiting(budget.take(10, reservation))
    assert (wait.is_closed, wait.reservation) == (True, None)
    clock.advance(1_100)
    assert waiting(budget.take(10)).reservation == reservation


def test_one_probe_alone_reopens_a_closed_pool(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock)
    budget.close_until(after_ms=1_000)
    clock.advance(1_001)
    probe = granted(budget.take(2))
    assert isinstance(budget.take(2), Wait)
    budget.learn(probe, used=10, date_ms=None, served=True, rtt_ms=10)
    granted(budget.take(2))


def test_a_late_answer_from_before_the_closing_does_not_reopen(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    early = granted(budget.take(2))
    budget.close_until(after_ms=1_000)
    clock.advance(500)
    budget.learn(early, used=10, date_ms=None, served=True, rtt_ms=10)
    clock.advance(501)
    granted(budget.take(2))
    assert isinstance(budget.take(2), Wait)


def test_a_probe_that_fails_lets_the_next_one_try_at_once(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock)
    budget.close_until(after_ms=1_000)
    clock.advance(1_001)
    budget.learn(granted(budget.take(2)), used=None, date_ms=None, served=False)
    granted(budget.take(2))
    assert isinstance(budget.take(2), Wait)


def closed_ms(maker: Maker, clock: ManualClock, refusals: int, **until: int) -> list[int]:
    """How long a pool is closed by each of so many refusals, each of a trial call."""
    budget, closings = ready(maker, clock), []
    for _ in range(refusals):
        granted(budget.take(2))
        closings.append(budget.close_until(**until).for_ms)
        clock.advance(closings[-1] + 1)
    return closings


@pytest.mark.parametrize("until", [{"after_ms": 0}, {"at_ms": 1}, {"at_ms": 0}, {}])
def test_an_end_that_is_over_closes_to_the_next_minute(
    maker: Maker, clock: ManualClock, until: dict[str, int]
) -> None:
    closings = closed_ms(maker, clock, 5, **until)
    assert 57_000 <= closings[0] <= MINUTE_MS
    assert sum(closings) > 2 * MINUTE_MS, "no more than two refusals a minute"


def test_an_end_that_is_near_each_time_is_waited_for_longer_each_time(
    maker: Maker, clock: ManualClock
) -> None:
    assert closed_ms(maker, clock, 8, after_ms=1)[:5] == [1_000, 2_000, 4_000, 8_000, 16_000]
    assert closed_ms(maker, ManualClock(), 12, after_ms=1)[-1] == 64_000


def test_calls_that_were_in_flight_as_the_pool_closed_do_not_close_it_for_longer(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    for _ in range(50):
        budget.close_until(after_ms=1_000)
        clock.advance(2)
    assert waiting(budget.take(2)).ms <= 1_000


def test_a_served_call_forgets_earlier_refusals(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock)
    for _ in range(3):
        clock.advance(budget.close_until(after_ms=1_000).for_ms + 1)
    budget.learn(granted(budget.take(2)), used=10, date_ms=None, served=True, rtt_ms=10)
    assert budget.close_until(after_ms=1_000).for_ms == 1_000


@pytest.mark.parametrize("asked_ms", [4 * DAY_MS, 258 * 365 * DAY_MS, 10**15])
def test_a_ban_longer_than_any_documented_is_tried_once_an_hour(
    maker: Maker, clock: ManualClock, asked_ms: int
) -> None:
    budget = ready(maker, clock)
    for closing in (
        budget.close_until(at_ms=clock.now_ms() + asked_ms),
        budget.close_until(after_ms=asked_ms),
    ):
        assert closing.for_ms == HOUR_MS
        assert closing.is_doubted
    clock.advance(HOUR_MS + 1)
    granted(budget.take(2))
    assert isinstance(budget.take(2), Wait), "one trial call"
    assert spend_all(budget) == 0


def test_a_ban_of_a_documented_length_is_waited_for_to_its_end(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    closing = budget.close_until(after_ms=3 * DAY_MS)
    assert closing.for_ms == 3 * DAY_MS
    assert not closing.is_doubted


def reopened(maker: Maker, clock: ManualClock) -> tuple[RedisBudget, Grant]:
    """A budget that an operator has reopened during a ban, and the trial call that went out."""
    budget = ready(maker, clock)
    budget.close_until(after_ms=2 * DAY_MS)
    budget.reopen()
    return budget, granted(budget.take(2))


def test_an_operator_reopens_a_closed_pool_for_one_trial_call(
    maker: Maker, clock: ManualClock
) -> None:
    budget, trial = reopened(maker, clock)
    assert isinstance(budget.take(2), Wait)
    budget.learn(trial, used=10, date_ms=None, served=True, rtt_ms=10)
    assert spend_all(budget) > LIMIT // 2


def test_a_reopened_pool_whose_trial_call_is_refused_is_closed_again(
    maker: Maker, clock: ManualClock
) -> None:
    budget, trial = reopened(maker, clock)
    budget.learn(trial, used=None, date_ms=None, served=False)
    assert budget.close_until(after_ms=2 * DAY_MS).for_ms == 2 * DAY_MS
    assert waiting(budget.take(2)).is_closed

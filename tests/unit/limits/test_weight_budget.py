"""The weight budget, held to one set of tests in Redis (real Lua on fakeredis) and in memory."""

from __future__ import annotations

import pytest

from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Budget
from klinefleet.workers.limits.weight_waiter import WeightWaiter
from klinefleet.workers.support.clock import ManualClock
from tests.unit.helpers.budgets import (
    LIMIT,
    START_MS,
    Maker,
    answer_one,
    granted,
    ready,
    spend_all,
    waiting,
)


def test_a_minute_never_grants_more_than_its_limit(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock)
    assert 0.99 * LIMIT <= spend_all(budget) <= LIMIT


def test_a_share_of_the_budget_is_never_exceeded(maker: Maker, clock: ManualClock) -> None:
    ours = LIMIT // 4
    assert ours - 5 <= spend_all(ready(maker, clock, share=0.25)) < ours


def test_before_the_limit_is_known_little_is_granted(maker: Maker, clock: ManualClock) -> None:
    budget = maker(clock)
    answer_one(budget, clock)
    clock.advance(2 * MINUTE_MS)
    assert spend_all(budget) <= 60


@pytest.mark.parametrize("share", [0.33, 0.1, 0.016, 0.001])
def test_a_share_however_small_does_not_keep_a_fleet_from_learning_the_limit(
    maker: Maker, clock: ManualClock, share: float
) -> None:
    budget = maker(clock, share=share)
    assert granted(budget.take(20)).weight == 20, "exchangeInfo of spot, which names the limit"


def test_others_who_spend_much_do_not_keep_a_fleet_from_learning_the_limit(
    maker: Maker, clock: ManualClock
) -> None:
    budget = maker(clock)
    clock.advance(30_000)
    answer_one(budget, clock, used=1500)
    granted(budget.take(20))


def test_before_the_clock_is_known_one_call_goes_out_at_a_time(
    maker: Maker, clock: ManualClock
) -> None:
    budget = maker(clock)
    granted(budget.take(1))
    assert waiting(budget.take(1)).ms <= 300


def test_a_full_minute_answers_with_a_reservation_in_the_next(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    spend_all(budget, answered=True)
    wait = waiting(budget.take(2))
    assert wait.reservation is not None
    clock.advance(wait.ms)
    assert granted(budget.take(2, wait.reservation)).minute == wait.reservation


def test_a_reservation_holds_against_newcomers(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock, limit=100)
    spend_all(budget, 10, answered=True)
    waits = [waiting(budget.take(10)) for _ in range(3)]
    clock.advance(waits[0].ms)
    spend_all(budget, 1)
    assert all(granted(budget.take(10, wait.reservation)) for wait in waits)


def test_a_header_raises_the_count_and_never_lowers_it(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock)
    clock.advance(50_000)
    answer_one(budget, clock, weight=2, used=2)
    answer_one(budget, clock, weight=2, used=2000)
    answer_one(budget, clock, weight=2, used=3)
    assert spend_all(budget) <= LIMIT - 2000 - 2


def test_calls_in_flight_are_added_to_the_header(maker: Maker, clock: ManualClock) -> None:
    budget = ready(maker, clock)
    in_flight = [granted(budget.take(100)) for _ in range(10)]
    clock.advance(20_000)
    budget.learn(in_flight[0], used=1100, date_ms=None, served=True)
    assert spend_all(budget) <= LIMIT - 1100 - 900


def test_a_call_in_flight_over_the_minutes_edge_is_charged_to_both(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    for _ in range(10):
        granted(budget.take(100))
    clock.advance(MINUTE_MS)
    assert spend_all(budget) <= LIMIT - 1000


def test_a_lost_answer_is_charged_to_each_minute_it_may_be_counted_in(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    clock.advance(50_000)
    grant = granted(budget.take(500))
    clock.advance(20_000)
    budget.learn(grant, used=None, date_ms=None, served=False)
    assert spend_all(budget) <= LIMIT - 500


def at_an_uncertain_edge(maker: Maker, clock: ManualClock) -> Budget:
    """A budget shortly before the minute ends, with the exchange's clock known to 1.5 s."""
    budget = maker(clock)
    grant = granted(budget.take(1))
    clock.advance(500)
    budget.learn(grant, used=1, date_ms=START_MS, served=True, rtt_ms=500)
    budget.set_limit(LIMIT)
    clock.advance(START_MS + MINUTE_MS - clock.now_ms() - 400)
    return budget


def test_the_edge_of_an_uncertain_minute_sends_nothing_when_room_is_scarce(
    maker: Maker, clock: ManualClock
) -> None:
    assert waiting(at_an_uncertain_edge(maker, clock).take(3 * LIMIT // 4)).ms >= 400


def test_a_call_at_an_uncertain_edge_is_charged_to_both_minutes(
    maker: Maker, clock: ManualClock
) -> None:
    budget = at_an_uncertain_edge(maker, clock)
    grant = granted(budget.take(500))
    clock.advance(100)
    budget.learn(grant, used=None, date_ms=None, served=True)
    clock.advance(5_000)
    assert spend_all(budget) <= LIMIT - 500


def test_one_call_every_three_seconds_probes_the_weight_kept_for_others(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock)
    answer_one(budget, clock, used=LIMIT // 20)
    assert spend_all(budget, answered=True) < 10, (
        "at that pace others would have it all in a minute"
    )
    clock.advance(2_900)
    assert waiting(budget.take(2)).ms <= 3_000
    clock.advance(200)
    probe = granted(budget.take(2))
    waiting(budget.take(2))
    clock.advance(50)
    date_ms = clock.now_ms() // 1000 * 1000
    budget.learn(probe, used=LIMIT // 20 + 10, date_ms=date_ms, served=True, rtt_ms=50)
    assert spend_all(budget) > 500, "they spent no more: their pace is half of what it seemed"


def shared(maker: Maker, clock: ManualClock, share: float, *, limit: int = LIMIT) -> Budget:
    """A budget whose limit is known before its clock, as where another worker has set it."""
    budget = maker(clock, share=share)
    budget.set_limit(limit)
    answer_one(budget, clock)
    clock.advance(MINUTE_MS + 2_000)
    return budget


@pytest.mark.parametrize(("share", "ours"), [(0.0009, 2), (0.0005, 1), (0.0125, 30), (0.57, 1367)])
def test_a_small_share_is_neither_cut_to_nothing_nor_by_a_weight(
    maker: Maker, clock: ManualClock, share: float, ours: int
) -> None:
    assert spend_all(shared(maker, clock, share), weight=1) == ours


def test_a_call_that_fits_in_no_minute_fails_instead_of_waiting_for_ever(
    maker: Maker, clock: ManualClock
) -> None:
    budget = shared(maker, clock, 0.0005)
    with pytest.raises(
        SettingsError, match=r"KLINES_WEIGHT_SHARE .* 1 of the exchange's 2,400 .* weight 2"
    ):
        budget.take(2)
    granted(budget.take(1))


def test_a_share_below_one_weight_fails_the_waiter_too(maker: Maker, clock: ManualClock) -> None:
    budget = maker(clock, share=1e-9)
    budget.set_limit(LIMIT)
    with pytest.raises(SettingsError, match="KLINES_WEIGHT_SHARE"):
        WeightWaiter().acquire(budget, 1)


def test_a_call_above_the_exchanges_limit_fails_too(maker: Maker, clock: ManualClock) -> None:
    with pytest.raises(SettingsError, match=r"9 of the exchange's 10 .* weight 10"):
        shared(maker, clock, 1.0, limit=10).take(10)


def test_what_others_spend_is_taken_from_what_the_share_leaves_and_not_from_the_share(
    maker: Maker, clock: ManualClock
) -> None:
    budget = ready(maker, clock, share=0.25)
    for _ in range(3):
        clock.advance(30_000)
        answer_one(budget, clock, used=700)
        clock.advance(MINUTE_MS - clock.now_ms() % MINUTE_MS + 2_000)
    assert 550 <= spend_all(budget, answered=True) < 600, (
        "a few calls are kept for later, to see what others do"
    )

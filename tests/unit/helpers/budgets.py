"""Budgets for tests, and short words to take from them."""

from __future__ import annotations

from collections.abc import Callable

from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Budget, Grant, Wait
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.support.clock import ManualClock

LIMIT = 2400
START_MS = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS

#: Makes a budget whose time is that of a clock.
Maker = Callable[..., RedisBudget]


def ready(
    maker: Maker, clock: ManualClock, *, limit: int = LIMIT, share: float = 1.0, skew_ms: int = 0
) -> RedisBudget:
    """A budget two seconds into a minute, in which weight 1 has been spent.

    It knows its limit, and the exchange's clock to a few milliseconds.
    """
    budget = maker(clock, share=share)
    for _ in range(3):
        answer_one(budget, clock, skew_ms=skew_ms)
        clock.advance(990)
    budget.set_limit(limit)
    clock.advance(MINUTE_MS - (clock.now_ms() + skew_ms) % MINUTE_MS + 2000)
    answer_one(budget, clock, skew_ms=skew_ms)
    return budget


def answer_one(
    budget: Budget, clock: ManualClock, *, weight: int = 1, used: int | None = 1, skew_ms: int = 0
) -> Grant:
    grant = granted(budget.take(weight))
    clock.advance(10)
    date_ms = (clock.now_ms() + skew_ms) // 1000 * 1000
    budget.learn(grant, used=used, date_ms=date_ms, served=True, rtt_ms=10)
    return grant


def granted(answer: Grant | Wait) -> Grant:
    assert isinstance(answer, Grant), answer
    return answer


def waiting(answer: Grant | Wait) -> Wait:
    assert isinstance(answer, Wait), answer
    return answer


def spend_all(budget: Budget, weight: int = 2, *, answered: bool = False) -> int:
    """Take until nothing is left and return what was granted; the first call is answered."""
    spent = 0
    while isinstance(grant := budget.take(weight), Grant):
        if answered or not spent:
            date_ms = None if spent else grant.at_ms // 1000 * 1000
            budget.learn(grant, used=None, date_ms=date_ms, served=True)
        spent += weight
    return spent

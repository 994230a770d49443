"""Two names of one public address are detected, and two addresses are never taken for one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import fakeredis
import pytest

from deploy.simulator.neighbours import even
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Budget, Grant, Minute, Wait
from klinefleet.workers.limits.shared_egress import (
    detect_shared_egress,
    share_one_address,
    shared_egress_pairs,
)
from klinefleet.workers.support.clock import ManualClock
from tests.unit.helpers.fleet_model import Books, FleetModel, go_on
from tests.unit.helpers.redis_budget import ManualRedisBudget

LIMIT = 400
START_MS = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS


class Named(ManualRedisBudget):
    """The budget of one name."""

    def __init__(self, clock: ManualClock, redis: fakeredis.FakeRedis, name: str) -> None:
        super().__init__(clock, redis=redis, egress=name)
        self.set_limit(LIMIT)


@dataclass
class InTurn:
    """Two budgets used in turn, as by workers under two names; each keeps its reservations."""

    budgets: tuple[Budget, Budget]
    granted: dict[int, Budget] = field(default_factory=dict)
    turn: int = 0

    def take(self, weight: int, reservation: int | None = None) -> Grant | Wait:
        owner = reservation % 2 if reservation is not None else self.turn % 2
        self.turn += 1
        answer = self.budgets[owner].take(weight, None if reservation is None else reservation // 2)
        if isinstance(answer, Wait):
            if answer.reservation is None:
                return answer
            return replace(answer, reservation=answer.reservation * 2 + owner)
        self.granted[id(answer)] = self.budgets[owner]
        return answer

    def learn(self, grant: Grant, **outcome: object) -> None:
        self.granted.pop(id(grant)).learn(grant, **outcome)  # type: ignore[arg-type]

    def close_until(self, **until: int | None) -> None:
        for budget in self.budgets:
            budget.close_until(**until)


def simulated(*, shared_books: bool, others: int = 0) -> list[tuple[str, str]]:
    """Run two names at one address or at two, and return the pairs found to be one."""
    clock, redis = ManualClock(START_MS + 1_234), fakeredis.FakeRedis()
    named = {name: Named(clock, redis, name) for name in ("home", "office")}
    books = [Books(LIMIT, 0)] * 2 if shared_books else [Books(LIMIT, 0), Books(LIMIT, 0)]
    models = [
        FleetModel(budget, clock, book, random.Random(7), workers=6, neighbour=even(others))
        for budget, book in zip(named.values(), books, strict=True)
    ]
    if shared_books:
        models = [replace(models[0], budget=InTurn((named["home"], named["office"])))]
    for model in models:
        model.begin()
    for _ in range(30):
        go_on(models, minutes=1 / 6)
        detect_shared_egress(redis, "futures", named)
    return shared_egress_pairs(redis, "futures")


def test_two_names_of_one_address_are_found() -> None:
    assert simulated(shared_books=True) == [("home", "office")]


@pytest.mark.parametrize("others", [0, LIMIT // 8])
def test_two_addresses_are_not_taken_for_one(others: int) -> None:
    assert simulated(shared_books=False, others=others) == []


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        (Minute(5, 100, 200), Minute(5, 100, 200), True),
        (Minute(5, 100, 140), Minute(5, 100, 199), True),
        (Minute(5, 100, 100), Minute(5, 100, 200), False),
        (Minute(5, 100, 200), Minute(5, 100, 100), False),
        (Minute(5, 100, 260), Minute(5, 100, 260), False),
        (Minute(5, 10, 20), Minute(5, 10, 20), None),
        (Minute(5, 100, 200), Minute(6, 100, 200), None),
    ],
)
def test_both_headers_have_to_show_the_others_spending(
    first: Minute, second: Minute, is_shared: bool | None
) -> None:
    assert share_one_address(first, second) is is_shared
    assert share_one_address(second, first) is is_shared


def test_one_minute_alone_is_not_believed_and_another_answer_takes_it_back() -> None:
    clock, redis = ManualClock(START_MS), fakeredis.FakeRedis()
    minutes = {"home": Minute(1, 100, 200), "office": Minute(1, 100, 200)}

    @dataclass
    class FakeBudget:
        minute: Minute

        def last_minute(self) -> Minute:
            return self.minute

    def pairs_after(minute: int, header: int = 200) -> list[tuple[str, str]]:
        budgets = {
            name: FakeBudget(replace(last, minute=minute, header=header))
            for name, last in minutes.items()
        }
        detect_shared_egress(redis, "futures", budgets)  # type: ignore[arg-type]
        return shared_egress_pairs(redis, "futures")

    assert pairs_after(1) == pairs_after(1) == []
    assert pairs_after(2) == [("home", "office")]
    assert pairs_after(3, header=100) == []
    assert clock.now_ms() == START_MS

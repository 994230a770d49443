"""Two names of one public address are found by what the exchange counts, and two addresses are
never taken for one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import fakeredis
import pytest

from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Budget, Grant, Minute, Wait
from klinefleet.workers.limits.shared_egress import (
    detect_shared_egress,
    share_one_address,
    shared_egress_pairs,
)
from klinefleet.workers.support.clock import HandClock
from tests.unit.helpers.fleet_model import Books, FleetModel, go_on
from tests.unit.helpers.redis_budget import WoundRedisBudget

LIMIT = 400
START_MS = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS


class Named(WoundRedisBudget):
    """The budget of one name."""

    def __init__(self, clock: HandClock, redis: fakeredis.FakeRedis, name: str) -> None:
        super().__init__(clock, redis=redis)
        self._keys = [key.replace("@test", f"@{name}") for key in self._keys]
        self.set_limit(LIMIT)


@dataclass
class InTurn:
    """Two budgets asked in turn, as workers under two names would; a place is kept with its owner."""

    budgets: tuple[Budget, Budget]
    granted: dict[int, Budget] = field(default_factory=dict)
    turn: int = 0

    def take(self, weight: int, place: int | None = None) -> Grant | Wait:
        owner = place % 2 if place is not None else self.turn % 2
        self.turn += 1
        answer = self.budgets[owner].take(weight, None if place is None else place // 2)
        if isinstance(answer, Wait):
            return (
                answer if answer.place is None else replace(answer, place=answer.place * 2 + owner)
            )
        self.granted[id(answer)] = self.budgets[owner]
        return answer

    def learn(self, grant: Grant, **told: object) -> None:
        self.granted.pop(id(grant)).learn(grant, **told)  # type: ignore[arg-type]

    def close_until(self, **told: int | None) -> None:
        for budget in self.budgets:
            budget.close_until(**told)


def simulated(*, shared_books: bool, foreign: int = 0) -> list[tuple[str, str]]:
    """Run two names for five minutes at one address or at two; returns the pairs found to be one."""
    clock, redis = HandClock(START_MS + 1_234), fakeredis.FakeRedis()
    named = {name: Named(clock, redis, name) for name in ("home", "office")}
    books = [Books(LIMIT, 0)] * 2 if shared_books else [Books(LIMIT, 0), Books(LIMIT, 0)]
    models = [
        FleetModel(budget, clock, of, random.Random(7), workers=6, foreign_per_minute=foreign)
        for budget, of in zip(named.values(), books, strict=True)
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


@pytest.mark.parametrize("foreign", [0, LIMIT // 8])
def test_two_addresses_are_not_taken_for_one(foreign: int) -> None:
    assert simulated(shared_books=False, foreign=foreign) == []


@pytest.mark.parametrize(
    ("first", "second", "one"),
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
    first: Minute, second: Minute, one: bool | None
) -> None:
    assert share_one_address(first, second) is one
    assert share_one_address(second, first) is one


def test_one_minute_alone_is_not_believed_and_another_answer_takes_it_back() -> None:
    clock, redis = HandClock(START_MS), fakeredis.FakeRedis()
    told = {"home": Minute(1, 100, 200), "office": Minute(1, 100, 200)}

    @dataclass
    class Told:
        minute: Minute

        def last_minute(self) -> Minute:
            return self.minute

    def look(minute: int, header: int = 200) -> list[tuple[str, str]]:
        budgets = {
            name: Told(replace(of, minute=minute, header=header)) for name, of in told.items()
        }
        detect_shared_egress(redis, "futures", budgets)  # type: ignore[arg-type]
        return shared_egress_pairs(redis, "futures")

    assert look(1) == look(1) == []
    assert look(2) == [("home", "office")]
    assert look(3, header=100) == []
    assert clock.now_ms() == START_MS

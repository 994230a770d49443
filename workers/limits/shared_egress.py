"""Two names of one public address: each one's used weight shows what the other has spent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import combinations
from typing import cast

from redis import Redis

from klinefleet.workers.domain.redis_keys import SHARED_EGRESS
from klinefleet.workers.limits.budget import Minute
from klinefleet.workers.limits.redis_budget import RedisBudget

logger = logging.getLogger(__name__)

#: Weight that both have to spend in a minute before anything is said of them.
LEAST_SPENT = 30
#: One that has its weight early in a minute sees only part of what the other spends later; one of
#: them sees it all.
LEAST_SEEN, MOST_SEEN, NEARLY_ALL = 0.25, 1.1, 0.9
#: Minutes in a row after which it is believed: once may be another program that spends as much by
#: chance.
MINUTES_IN_A_ROW = 2


def share_one_address(first: Minute, second: Minute) -> bool | None:
    """Return whether two names look like one address in a minute; None where too little was spent
    to tell.
    """
    if first.minute != second.minute or min(first.spent, second.spent) < LEAST_SPENT:
        return None
    seen = sorted(
        ((first.header - first.spent) / second.spent, (second.header - second.spent) / first.spent)
    )
    return seen[0] >= LEAST_SEEN and NEARLY_ALL <= seen[1] <= MOST_SEEN


def detect_shared_egress(redis: Redis, pool: str, budgets: Mapping[str, RedisBudget]) -> None:
    """Compare what was spent in the last minute by each two names, and tell the operator of those
    that are one.
    """
    told = (
        {name: budget.last_minute() for name, budget in sorted(budgets.items())}
        if len(budgets) > 1
        else {}
    )
    for (first, of_first), (second, of_second) in combinations(told.items(), 2):
        if of_first and of_second:
            _compare(redis, f"{pool} {first} {second}", of_first, of_second)


def shared_egress_pairs(redis: Redis, pool: str) -> list[tuple[str, str]]:
    """Return the pairs of names that seem to be one address."""
    noted = cast("dict[bytes, bytes]", redis.hgetall(SHARED_EGRESS))
    pairs = {tuple(name.decode().split()): int(told.split()[1]) for name, told in noted.items()}
    return sorted(
        (pair[1], pair[2])
        for pair, times in pairs.items()
        if pair[0] == pool and times >= MINUTES_IN_A_ROW
    )


def _compare(redis: Redis, pair: str, first: Minute, second: Minute) -> None:
    is_one = share_one_address(first, second)
    noted = cast("bytes | None", redis.hget(SHARED_EGRESS, pair))
    before, times = map(int, (noted or b"0 0").split())
    if is_one is None or before == first.minute:
        return
    if not is_one:
        redis.hdel(SHARED_EGRESS, pair)
        return
    redis.hset(SHARED_EGRESS, pair, f"{first.minute} {times + 1}")
    if times + 1 == MINUTES_IN_A_ROW:
        pool, one, other = pair.split()
        logger.warning(
            "egress %s and %s seem to be one address: the used " "weight " "of %s " "shows " "what " "both " "spent, twice in a row. "
            "They share its limit and go on; give their workers one KLINES_EGRESS",
            one, other, pool,
        )  # fmt: skip

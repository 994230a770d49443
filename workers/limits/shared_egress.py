"""Detection of two egress names for one public address: the used weight of each includes what the
other has spent.
"""

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

#: Two names are compared only for minutes in which both spent at least this weight.
MIN_SPENT = 30
#: Part of the other's weight that each name must see in its header. The one that spends first sees
#: only some of it (at least MIN_SEEN), the later one nearly all.
MIN_SEEN, NEARLY_ALL, MAX_SEEN = 0.25, 0.9, 1.1
#: Minutes in a row that must look shared: once, another program may have spent as much by chance.
MINUTES_IN_A_ROW = 2


def share_one_address(first: Minute, second: Minute) -> bool | None:
    """Return True if two names look like one address; None if too little was spent to tell."""
    if first.minute != second.minute or min(first.spent, second.spent) < MIN_SPENT:
        return None
    seen_by_first = (first.header - first.spent) / second.spent
    seen_by_second = (second.header - second.spent) / first.spent
    less, more = sorted((seen_by_first, seen_by_second))
    return less >= MIN_SEEN and NEARLY_ALL <= more <= MAX_SEEN


def detect_shared_egress(redis: Redis, pool: str, budgets: Mapping[str, RedisBudget]) -> None:
    """Compare the last minute of every two egress names, and warn about shared addresses."""
    if len(budgets) < 2:
        return
    minutes = {name: budget.last_minute() for name, budget in sorted(budgets.items())}
    for (name, minute), (other_name, other_minute) in combinations(minutes.items(), 2):
        if minute and other_minute:
            _compare(redis, f"{pool} {name} {other_name}", minute, other_minute)


def shared_egress_pairs(redis: Redis, pool: str) -> list[tuple[str, str]]:
    """Return the pairs of egress names that seem to be one address."""
    records = cast("dict[bytes, bytes]", redis.hgetall(SHARED_EGRESS))
    pairs = []
    for key, record in records.items():
        its_pool, name, other_name = key.decode().split()
        times = int(record.split()[1])
        if its_pool == pool and times >= MINUTES_IN_A_ROW:
            pairs.append((name, other_name))
    return sorted(pairs)


def _compare(redis: Redis, key: str, first: Minute, second: Minute) -> None:
    """Count a minute for or against a pair; `key` is "pool name other_name"."""
    is_shared = share_one_address(first, second)
    record = cast("bytes | None", redis.hget(SHARED_EGRESS, key))
    last_minute, times = map(int, (record or b"0 0").split())
    if is_shared is None or last_minute == first.minute:
        return
    if not is_shared:
        redis.hdel(SHARED_EGRESS, key)
        return
    redis.hset(SHARED_EGRESS, key, f"{first.minute} {times + 1}")
    if times + 1 == MINUTES_IN_A_ROW:
        pool, name, other_name = key.split()
        logger.warning(
            "egress %s and %s seem to be one address: for two minutes in a row, the used weight "
            "of %s showed what both spent. Both keep running within its limit; "
            "set one KLINES_EGRESS for their workers",
            name,
            other_name,
            pool,
        )

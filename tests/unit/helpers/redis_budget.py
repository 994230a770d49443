"""A weight budget in a real Redis whose time the test sets."""

from __future__ import annotations

import fakeredis
from redis import Redis

from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.support.clock import ManualClock


class ManualRedisBudget(RedisBudget):
    """The budget in Redis, with the time of a manual clock."""

    def __init__(
        self,
        clock: ManualClock,
        *,
        share: float = 1.0,
        redis: Redis | None = None,
        egress: str = "test",
    ) -> None:
        super().__init__(redis or fakeredis.FakeRedis(), "futures", egress, share=share)
        self._clock = clock

    def _run(self, verb: str, *args: int) -> list[int]:
        self.now_ms = self._clock.now_ms()
        return super()._run(verb, *args)

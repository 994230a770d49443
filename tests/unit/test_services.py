"""What a process notes of its pool, and whom it wakes."""

from __future__ import annotations

import pytest
from redis import Redis, RedisError

from klinefleet.workers import services as module
from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.support.stop_signal import StopSignal
from klinefleet.workers.support.threads import Threads
from tests.processes import until
from tests.unit.helpers.in_process_fleet import InProcessFleet


def test_who_waits_for_the_next_minute_is_woken_when_the_exchange_has_closed_the_pool_for_long(
    one: InProcessFleet,
) -> None:
    services, budget = one.services, one.services.budget(Pool.FUTURES)
    with Threads(1) as threads:
        waiting = threads.submit(services.stop.wait, 60)
        for closed_ms, is_long in ((None, False), (5_000, False), (600_000, True)):
            if closed_ms:
                budget.close_until(after_ms=closed_ms)
            services.refresh_pool_closed(Pool.FUTURES)
            assert services.is_pool_closed is is_long
            assert is_long or not waiting.done()
        until(
            "it is woken",
            lambda: services.refresh_pool_closed(Pool.FUTURES) or waiting.done(),
            within_s=30,
        )
    assert not waiting.result(), "it was told to stop"


class Waits(StopSignal):
    """Counts the seconds instead of waiting; stops after `most`."""

    def __init__(self, most: int = 10_000) -> None:
        super().__init__()
        self.seconds, self._most = 0.0, most

    def wait(self, seconds: float) -> bool:
        self.seconds += seconds
        return self.seconds >= self._most


@pytest.mark.parametrize(
    ("redis_refuses", "store_refuses", "most", "waited_s"),
    [
        (0, 0, 10_000, 1),
        (90, 0, 10_000, 91),
        (10_000, 0, 10_000, module.MAX_REDIS_WAIT_S),
        (10_000, 0, 7, 7),
        (0, 4, 10_000, 5),
        (0, 10_000, 10_000, module.MAX_STORE_WAIT_S + 1),
    ],
)
def test_work_goes_back_to_its_queue_once_redis_and_the_store_can_be_written(
    one: InProcessFleet,
    monkeypatch: pytest.MonkeyPatch,
    redis_refuses: int,
    store_refuses: int,
    most: int,
    waited_s: int,
) -> None:
    one.services.stop = waits = Waits(most)

    def ask_redis(_: Redis) -> None:
        if waits.seconds <= redis_refuses:
            raise RedisError("OOM")

    def ask_store() -> None:
        if waits.seconds <= store_refuses:
            raise StoreFault("full")

    monkeypatch.setattr(module, "require_writable", ask_redis)
    monkeypatch.setattr(one.services.store, "require_writable", ask_store)
    one.services.pause_before_requeue()
    assert waits.seconds == waited_s

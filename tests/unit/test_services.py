"""What a process notes of its pool, and whom it wakes."""

from __future__ import annotations

from klinefleet.workers.domain.markets import Pool
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

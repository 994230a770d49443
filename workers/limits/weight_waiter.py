"""Waiting for weight: ask once, sleep exactly as long as told, ask again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from klinefleet.workers.domain.errors import OverWeight
from klinefleet.workers.limits.budget import Budget, Grant
from klinefleet.workers.support import metrics
from klinefleet.workers.support.stop_signal import Stop

#: Waiters are spread over this much, so that a new minute or a reopened pool is not met by all at
#: once.
JITTER_MS = 200
#: Longest wait unless told otherwise, seconds.
MAX_WAIT_S = 300.0


class WeightWaiter:
    """Gets weight for callers that can wait, but not for ever, and not once the process is told to
    stop.
    """

    def __init__(
        self,
        stop: Stop | None = None,
        *,
        longest_s: float = MAX_WAIT_S,
        longest_closed_s: float = MAX_WAIT_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop or Stop()
        self._now = now
        self._longest_s = longest_s
        self._longest_closed_s = longest_closed_s

    def acquire(self, budget: Budget, weight: int) -> tuple[Grant, float]:
        """Return leave to send a call of this weight, and the seconds waited for it.

        OverWeight where the wait would be longer than allowed (for a pool that the exchange closed:
        at once, since another address may have weight), or the process is told to stop. Who is
        woken meanwhile asks again.
        """
        # Told before the first wait too: the rate of a series that began with it would miss it.
        metrics.WEIGHT_WAIT_SECONDS.add(0, pool=budget.pool, egress=budget.egress)
        waited_s, place = 0.0, None
        while True:
            answer = budget.take(weight, place)
            if isinstance(answer, Grant):
                return answer, waited_s
            pause_s = (answer.ms + random.uniform(0, min(JITTER_MS, answer.ms))) / 1000
            began = self._now()
            is_long = (
                pause_s > self._longest_closed_s
                if answer.is_closed
                else waited_s + pause_s > self._longest_s
            )
            if is_long or self._stop.wait(pause_s):
                raise OverWeight(
                    f"no room for weight {weight} for {answer.ms / 1000:.1f} s; the call was "
                    "not sent"
                )
            took_s = self._now() - began
            waited_s += took_s
            metrics.WEIGHT_WAIT_SECONDS.add(took_s, pool=budget.pool, egress=budget.egress)
            place = answer.place

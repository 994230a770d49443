"""Waiting for weight: take, sleep as long as the budget says, take again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from klinefleet.workers.domain.errors import OverWeight
from klinefleet.workers.limits.budget import Budget, Grant, Wait
from klinefleet.workers.support import metrics
from klinefleet.workers.support.stop_signal import StopSignal

#: Waits are lengthened by up to this much, so that waiters do not all meet a new minute at once.
JITTER_MS = 200
#: Longest wait by default, seconds.
MAX_WAIT_S = 300.0


class WeightWaiter:
    """Gets weight for callers that can wait, up to a limit and until the process is stopped.

    max_wait_s: longest wait for a full pool; max_closed_wait_s: longest wait for one that the
    exchange has closed, since another address may have weight meanwhile.
    """

    def __init__(
        self,
        stop: StopSignal | None = None,
        *,
        max_wait_s: float = MAX_WAIT_S,
        max_closed_wait_s: float = MAX_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop or StopSignal()
        self._clock = clock
        self._max_wait_s = max_wait_s
        self._max_closed_wait_s = max_closed_wait_s

    def acquire(self, budget: Budget, weight: int) -> tuple[Grant, float]:
        """Return a grant for a call of this weight, and the seconds waited for it.

        OverWeight if the wait would exceed its limit or the process is stopped. A waiter that is
        woken takes again before its time.
        """
        # Count 0 before the first wait, so that rate() of a new series sees that wait.
        metrics.WEIGHT_WAIT_SECONDS.add(0, pool=budget.pool, egress=budget.egress)
        waited_s, reservation = 0.0, None
        while True:
            answer = budget.take(weight, reservation)
            if isinstance(answer, Grant):
                return answer, waited_s
            pause_s = (answer.ms + random.uniform(0, min(JITTER_MS, answer.ms))) / 1000
            began_s = self._clock()
            if self._is_too_long(answer, pause_s, waited_s) or self._stop.wait(pause_s):
                raise OverWeight(
                    f"no room for weight {weight} for {answer.ms / 1000:.1f} s; the call was "
                    "not sent"
                )
            took_s = self._clock() - began_s
            waited_s += took_s
            metrics.WEIGHT_WAIT_SECONDS.add(took_s, pool=budget.pool, egress=budget.egress)
            reservation = answer.reservation

    def _is_too_long(self, answer: Wait, pause_s: float, waited_s: float) -> bool:
        if answer.is_closed:
            return pause_s > self._max_closed_wait_s
        return waited_s + pause_s > self._max_wait_s

"""Threads that compete for a concurrency limit."""

from __future__ import annotations

import threading

from klinefleet.workers.limits.concurrency import AdaptiveLimit, RestSlots


class LimitedThreads:
    """Threads that enter a limit, and leave it one by one when `release` is called."""

    def __init__(self, limit: AdaptiveLimit | RestSlots, size: int) -> None:
        self.inside = self.highest = self.served = 0
        self._limit = limit
        self._changed = threading.Condition()
        self._out = threading.Semaphore(0)
        self.threads = [threading.Thread(target=self._go, daemon=True) for _ in range(size)]
        for thread in self.threads:
            thread.start()

    def _go(self) -> None:
        with self._limit:
            with self._changed:
                self.inside += 1
                self.highest = max(self.highest, self.inside)
                self._changed.notify_all()
            self._out.acquire()
            with self._changed:
                self.inside -= 1
                self.served += 1
                self._changed.notify_all()

    def release(self, number: int = 1) -> None:
        self._out.release(number)

    def until(self, *, inside: int | None = None, served: int = 0) -> None:
        """Wait until so many are inside and at least so many have left."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.served >= served and inside in (None, self.inside), timeout=60
            ), (self.inside, self.served)

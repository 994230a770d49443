"""How many calls in flight pay, by measurement, and the gate that lets no more through."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

#: Calls in flight beyond Little's number, so that a slow answer does not leave weight unspent.
HEADROOM = 1.25


def useful_concurrency(
    *,
    rtt_ms: float,
    weight: int,
    left: float,
    minute_left_ms: float,
    backlog: float,
    sharers: int,
    most: int,
) -> int:
    """Return how many calls in flight one of `sharers` processes should have, from 1 to `most`.

    rtt_ms: round trip of one call; weight: what it costs; left: weight still free in this minute,
    which ends in minute_left_ms; backlog: weight of all that waits to be sent. What fits into this
    minute goes out at once; of what does not, as many as spend the rest of the budget by the
    minute's end: rate × round trip (Little's law).
    """
    if backlog <= left:
        return most
    calls_per_ms = left / weight / max(minute_left_ms, rtt_ms, 1.0)
    return max(1, min(most, math.ceil(calls_per_ms * rtt_ms * HEADROOM / max(1, sharers))))


class _ConcurrencyLimit:
    """Holds up whoever enters while as many are inside as its width lets in."""

    def __init__(self, most: int, width: float) -> None:
        self.most = most
        self._free = threading.Condition()
        self._taken = 0
        self._width = width

    @property
    def width(self) -> int:
        """Calls that may be in flight now."""
        return int(self._width)

    def __enter__(self) -> None:
        with self._free:
            self._free.wait_for(lambda: self._taken < self.width)
            self._taken += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._free:
            self._taken -= 1
            self._free.notify()


class RestSlots(_ConcurrencyLimit):
    """A gate for calls in flight whose width follows what is measured; errors never widen it."""

    def __init__(self, most: int) -> None:
        super().__init__(most, most)
        self._backlog = 0.0
        self._queued = 0
        self._sharers = 1
        self._rtt_ms: float | None = None

    @property
    def rtt_ms(self) -> int | None:
        """Moving average of the round trips of good answers, None before the first."""
        return None if self._rtt_ms is None else round(self._rtt_ms)

    @contextmanager
    def queued(self, weight: int) -> Iterator[None]:
        """Count a task's weight as waiting in this process while the block runs."""
        with self._free:
            self._queued += weight
        try:
            yield
        finally:
            with self._free:
                self._queued -= weight

    def demand(self, backlog: float, sharers: int) -> None:
        """Note how much weight waits elsewhere to be sent, and how many processes share the budget."""
        self._backlog, self._sharers = backlog, sharers

    def answered(self, *, rtt_ms: int, weight: int, left: int, minute_left_ms: int) -> None:
        """Note a good answer, and widen or narrow the gate accordingly."""
        with self._free:
            self._rtt_ms = rtt_ms if self._rtt_ms is None else self._rtt_ms * 0.9 + rtt_ms * 0.1
            self._set(
                useful_concurrency(
                    rtt_ms=self._rtt_ms,
                    weight=weight,
                    left=left,
                    minute_left_ms=minute_left_ms,
                    backlog=max(self._backlog, self._queued),
                    sharers=self._sharers,
                    most=self.most,
                )
            )

    def failed(self) -> None:
        """Note a failed call: the gate may only become narrower."""
        with self._free:
            self._set(max(1, self.width - 1))

    def _set(self, width: int) -> None:
        grown, self._width = width - self.width, width
        if grown > 0:
            self._free.notify(grown)


class AdaptiveLimit(_ConcurrencyLimit):
    """A gate for calls that cost no weight: as many at once as the other side answers without
    getting slower.

    It opens from a few calls, doubling until latency rises and then by one a round trip; a slower
    answer or a failure narrows it, at most once a round trip. Errors never widen it, however fast
    they come.
    """

    #: Calls at once before anything is measured.
    FIRST = 4
    #: Round trips this many times the shortest seen mean that the other side is busy with us.
    SLOWER = 2.5
    #: Round trips differ by so much by chance alone, ms.
    NOISE_MS = 40.0
    #: What is left of the width when it narrows.
    NARROWED = 0.7

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(most, float(min(self.FIRST, most)))
        self._clock = clock
        self._is_doubling = True
        self._least_ms: float | None = None
        self._rtt_ms = 0.0
        self._narrowed_at = float("-inf")

    def answered(self, *, rtt_ms: float) -> None:
        """Note how long a good answer took to its first byte."""
        with self._free:
            # The least is forgotten slowly: a longer road is not taken for a jam for ever.
            self._least_ms = (
                rtt_ms if self._least_ms is None else min(rtt_ms, self._least_ms * 1.001)
            )
            self._rtt_ms = self._rtt_ms * 0.8 + rtt_ms * 0.2 if self._rtt_ms else rtt_ms
            if self._rtt_ms > self._least_ms * self.SLOWER + self.NOISE_MS:
                self._narrow()
            else:
                self._width = min(
                    self.most, self._width + (1.0 if self._is_doubling else 1.0 / self._width)
                )
                self._free.notify()

    def failed(self) -> None:
        """Note a failed call."""
        with self._free:
            self._narrow()

    def _narrow(self) -> None:
        self._is_doubling = False
        if self._clock() - self._narrowed_at > self._rtt_ms / 1000:
            self._narrowed_at = self._clock()
            self._width = max(1.0, self._width * self.NARROWED)

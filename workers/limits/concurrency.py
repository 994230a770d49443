"""Limits on the number of calls in flight, adapted to what is measured."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

#: Factor on the calls in flight of Little's law, so that a slow answer leaves no weight unspent.
HEADROOM = 1.25
#: Calls in flight that a burst of another program may meet: each is refused if it fills the minute,
#: and some exchanges ban an address that is refused more than ten times.
FEW_CALLS = 8
#: Factor on the calls in flight of Little's law while more than these few are needed.
EARLY_FACTOR = 3.0
#: So late in a minute, no more calls are in flight than spend the rest in time.
LATE_MS = 15_000
#: Time before a minute's end that is not relied on.
SPARE_MS = 1_000


def useful_concurrency(
    *,
    rtt_ms: float,
    weight: int,
    left: float,
    minute_left_ms: float,
    backlog: float,
    sharers: int,
    max_width: int,
) -> int:
    """Return how many calls one of `sharers` processes should have in flight, 1 to `max_width`.

    rtt_ms: round trip of one call; weight: its cost; left: weight still free in this minute, which
    ends in minute_left_ms; backlog: weight of all calls that wait to be sent.

    A backlog that fits into this minute is sent at once. Of a larger one, as many calls are in
    flight as spend the rest of the weight by the minute's end: rate × round trip (Little's law).
    Where that is more than FEW_CALLS, so much is spent early that these few can spend the rest.
    """
    if backlog <= left:
        return max_width
    needed = left / weight / max(minute_left_ms - SPARE_MS, rtt_ms, 1.0) * rtt_ms
    if needed > FEW_CALLS:
        in_flight = needed * (EARLY_FACTOR if minute_left_ms > LATE_MS else HEADROOM)
    else:
        in_flight = min(FEW_CALLS, needed * HEADROOM)
    return max(1, min(max_width, math.ceil(in_flight / max(1, sharers))))


class _ConcurrencyLimit:
    """A context manager that lets at most `width` callers in at a time; others wait."""

    def __init__(self, max_width: int, width: float) -> None:
        self.max_width = max_width
        self._free = threading.Condition()
        self._in_flight = 0
        self._waiting = 0
        self._width = width

    @property
    def width(self) -> int:
        """Calls that may be in flight now."""
        return int(self._width)

    def __enter__(self) -> None:
        with self._free:
            self._waiting += 1
            self._free.wait_for(lambda: self._in_flight < self.width)
            self._waiting -= 1
            self._in_flight += 1

    @contextmanager
    def if_free(self) -> Iterator[bool]:
        """Let a caller in, and yield whether he is: only where nobody waits."""
        with self._free:
            is_free = not self._waiting and self._in_flight < self.width
            if is_free:
                self._in_flight += 1
        try:
            yield is_free
        finally:
            if is_free:
                self.__exit__(None, None, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._free:
            self._in_flight -= 1
            self._free.notify()


class RestSlots(_ConcurrencyLimit):
    """The limit for REST calls: as many as can spend the weight budget; errors never widen it."""

    def __init__(self, max_width: int) -> None:
        super().__init__(max_width, max_width)
        self._backlog = 0.0
        self._queued = 0
        self._sharers = 1
        self._rtt_ms: float | None = None

    @property
    def rtt_ms(self) -> int | None:
        """Moving average of the round trips of served calls, None before the first."""
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

    def set_demand(self, backlog: float, sharers: int) -> None:
        """Set the weight that waits in all processes, and how many of them share the budget."""
        self._backlog, self._sharers = backlog, sharers

    def record_success(self, *, rtt_ms: int, weight: int, left: int, minute_left_ms: int) -> None:
        """Adapt the width to a served call: `left` weight is free for another minute_left_ms."""
        with self._free:
            self._rtt_ms = rtt_ms if self._rtt_ms is None else self._rtt_ms * 0.9 + rtt_ms * 0.1
            self._set_width(
                useful_concurrency(
                    rtt_ms=self._rtt_ms,
                    weight=weight,
                    left=left,
                    minute_left_ms=minute_left_ms,
                    backlog=max(self._backlog, self._queued),
                    sharers=self._sharers,
                    max_width=self.max_width,
                )
            )

    def record_failure(self) -> None:
        """Narrow the width by one after a failed call."""
        with self._free:
            self._set_width(max(1, self.width - 1))

    def _set_width(self, width: int) -> None:
        growth, self._width = width - self.width, width
        if growth > 0:
            self._free.notify(growth)


class AdaptiveLimit(_ConcurrencyLimit):
    """The limit for calls without weight: as many as the server answers without getting slower.

    It starts with a few calls and doubles until latency rises, then grows by one per round trip. A
    slow answer or a failure narrows it, at most once per round trip. Errors never widen it, however
    fast they come.
    """

    #: Width before anything is measured.
    FIRST_WIDTH = 4
    #: Round trips this many times the shortest one mean that the server is overloaded.
    SLOWDOWN = 2.5
    #: Differences between round trips that mean nothing, ms.
    NOISE_MS = 40.0
    #: Factor by which the width narrows.
    NARROWING = 0.7

    def __init__(self, max_width: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(max_width, float(min(self.FIRST_WIDTH, max_width)))
        self._clock = clock
        self._is_doubling = True
        self._min_rtt_ms: float | None = None
        self._rtt_ms = 0.0
        self._narrowed_at_s = float("-inf")

    def record_success(self, *, rtt_ms: float) -> None:
        """Adapt the width to a good answer; rtt_ms is the time to its first byte."""
        with self._free:
            self._measure(rtt_ms)
            if self._is_overloaded():
                self._narrow()
            else:
                growth = 1.0 if self._is_doubling else 1.0 / self._width
                self._width = min(self.max_width, self._width + growth)
                self._free.notify()

    def record_failure(self) -> None:
        """Narrow the width after a failed call."""
        with self._free:
            self._narrow()

    def _measure(self, rtt_ms: float) -> None:
        if self._min_rtt_ms is None:
            self._min_rtt_ms = rtt_ms
        else:
            # The minimum slowly rises: a longer route must not look like an overload for ever.
            self._min_rtt_ms = min(rtt_ms, self._min_rtt_ms * 1.001)
        self._rtt_ms = self._rtt_ms * 0.8 + rtt_ms * 0.2 if self._rtt_ms else rtt_ms

    def _is_overloaded(self) -> bool:
        return self._rtt_ms > (self._min_rtt_ms or 0.0) * self.SLOWDOWN + self.NOISE_MS

    def _narrow(self) -> None:
        self._is_doubling = False
        if self._clock() - self._narrowed_at_s > self._rtt_ms / 1000:
            self._narrowed_at_s = self._clock()
            self._width = max(1.0, self._width * self.NARROWING)

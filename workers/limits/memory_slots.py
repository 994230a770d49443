"""Memory for the tasks of one process: each says what it needs, and begins once that is free."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from klinefleet.workers.domain.errors import OverWeight
from klinefleet.workers.support.machine import free_memory, own_memory
from klinefleet.workers.support.stop_signal import StopSignal

logger = logging.getLogger(__name__)

#: The share of what is free that is given out: estimates err, and other processes grow too.
_SHARE = 0.8
#: Less than so many bytes are always free.
SMALL = 32 << 20
#: Seconds between two looks at what is free, and after so many of them work goes back to its queue.
_PAUSE_S, _MAX_LOOKS = 0.5, 600


class MemorySlots:
    """Gives memory to tasks in the order in which they ask, and to one alone whatever it needs.

    What can be given is what the process had got above its idle size, and what is free beside it:
    other processes of the container or machine take part without being asked.
    """

    def __init__(
        self,
        stop: StopSignal,
        *,
        free: Callable[[], int] = free_memory,
        own: Callable[[], int] = own_memory,
    ) -> None:
        self._stop, self._free, self._own = stop, free, own
        self._idle: int | None = None
        self._reserved: dict[object, int] = {}
        self._waiting = deque[object]()
        self._lock = threading.Lock()

    def can_give(self) -> int:
        """Return the bytes that tasks can have at once."""
        now = self._own()
        self._idle = now if self._idle is None else self._idle
        return int(_SHARE * (max(0, self._free()) + max(0, now - self._idle)))

    @contextmanager
    def reserved(self, wanted: int, what: str) -> Iterator[None]:
        """Reserve so many bytes for a task.

        OverWeight, after five minutes or where this worker ends, if they did not come free.
        what: the task, for the message.
        """
        if wanted <= SMALL:
            yield
            return
        ticket = object()
        with self._lock:
            self._waiting.append(ticket)
        try:
            self._await(ticket, wanted, what)
            yield
        finally:
            with self._lock:
                self._reserved.pop(ticket, None)
                if ticket in self._waiting:
                    self._waiting.remove(ticket)

    def _await(self, ticket: object, wanted: int, what: str) -> None:
        for _ in range(_MAX_LOOKS):
            with self._lock:
                room = self.can_give() - sum(self._reserved.values())
                if self._waiting[0] is ticket and (wanted <= room or not self._reserved):
                    self._waiting.popleft()
                    self._reserved[ticket] = wanted
                    break
            if self._stop.wait(_PAUSE_S):
                raise OverWeight(f"{what}: this worker is shutting down; nothing was changed")
        else:
            raise OverWeight(
                f"{what} needs about {wanted >> 20:,} MiB, which did not come free; nothing was "
                "changed"
            )
        if wanted > room:
            logger.warning(
                "%s needs about %d MiB, and %d MiB are free: it may be killed",
                what,
                wanted >> 20,
                room >> 20,
            )

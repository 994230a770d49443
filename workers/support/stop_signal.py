"""A process's flag to stop, which also wakes threads that wait."""

from __future__ import annotations

import threading


class StopSignal:
    """Shutdown flag for all threads, set once.

    `wait` returns when it is set, on timeout, or after `wake`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_set = False

    def set(self) -> None:
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Return whether the flag is set, after at most so many seconds."""
        with self._changed:
            if not self._is_set:
                self._changed.wait(seconds)
            return self._is_set

    def wake(self) -> None:
        """Make every `wait` return now, for what they wait for may have changed."""
        with self._changed:
            self._changed.notify_all()

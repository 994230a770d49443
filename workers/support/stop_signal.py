"""A process's word to stop, and how those who wait for it are woken to look around."""

from __future__ import annotations

import threading


class Stop:
    """Told once, to all threads. Who waits for it comes back when it is told, after a time, or when
    all are woken.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._told = False

    def set(self) -> None:
        with self._changed:
            self._told = True
            self._changed.notify_all()

    def is_set(self) -> bool:
        return self._told

    def wait(self, seconds: float) -> bool:
        """Return whether it is told, after so many seconds or sooner."""
        with self._changed:
            if not self._told:
                self._changed.wait(seconds)
            return self._told

    def wake(self) -> None:
        """Have all who wait come back now: what they wait for has changed."""
        with self._changed:
            self._changed.notify_all()

"""Clocks: the machine's, and one that tests set."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time, and a way to sleep."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class WallClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class ManualClock:
    """A clock for tests, which only `advance` and `sleep` move."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = float(now_ms)

    def now_ms(self) -> int:
        return int(self._now_ms)

    def sleep(self, seconds: float) -> None:
        self.advance(seconds * 1000)

    def advance(self, milliseconds: float) -> None:
        self._now_ms += max(0.0, milliseconds)

"""Open and close times as text, without formatting every number: a page holds two thousand of them.

A time is thirteen digits. The first five stand still for a day; the last eight come round in a
short loop, because candles are evenly spaced. So a stretch of times is a few repeated heads beside
one slice of prepared tails.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from deploy.simulator.intervals import FixedGrid, Grid

#: Milliseconds in one turn of the last eight digits.
TURN_MS = 100_000_000
#: Longest stretch asked for at once; the loop of tails is prepared this much beyond its end.
LONGEST = 4_096

Texts = tuple[list[str], list[str]]


@dataclass(frozen=True, slots=True)
class Loop:
    """The tails of evenly spaced times, `first_ms` being the time of index 0."""

    first_ms: int
    step_ms: int
    period: int
    tails: list[str]

    def texts(self, index: int, count: int, lead: str) -> Texts:
        """Return heads, each after `lead`, and tails of `count` times from this index on."""
        at = index % self.period
        return self._heads(index, count, lead), self.tails[at : at + count]

    def _heads(self, index: int, count: int, lead: str) -> list[str]:
        heads: list[str] = []
        moment_ms = self.first_ms + index * self.step_ms
        while (missing := count - len(heads)) > 0:
            turn = moment_ms // TURN_MS
            fitting = min(missing, ((turn + 1) * TURN_MS - 1 - moment_ms) // self.step_ms + 1)
            heads += [f"{lead}{turn}"] * fitting
            moment_ms += fitting * self.step_ms
        return heads


def open_texts(grid: Grid, index: int, count: int, lead: str) -> Texts:
    """Return the open times of `count` candles, each after `lead`, as heads and tails."""
    if isinstance(grid, FixedGrid):
        return _loop(grid.phase_ms, grid.step_ms).texts(index, count, lead)
    return [lead] * count, [str(grid.open_of(at)) for at in range(index, index + count)]


def close_texts(grid: Grid, index: int, count: int) -> Texts:
    """Return the close times of `count` candles as heads and tails."""
    if isinstance(grid, FixedGrid):
        return _loop(grid.phase_ms + grid.step_ms - 1, grid.step_ms).texts(index, count, "")
    return [""] * count, [str(grid.open_of(at + 1) - 1) for at in range(index, index + count)]


@lru_cache(maxsize=128)
def _loop(first_ms: int, step_ms: int) -> Loop:
    period = TURN_MS // gcd(TURN_MS, step_ms)
    tails = [f"{(first_ms + index * step_ms) % TURN_MS:08d}" for index in range(period)]
    return Loop(first_ms, step_ms, period, tails * (LONGEST // period + 2))

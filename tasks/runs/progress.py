"""How a run stands: as people see it, and what it has under way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.records import Level, Record, named


class State(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self is not State.RUNNING


class Phase(StrEnum):
    """What is done with a block that is under way."""

    CLAIMED = "claimed"
    FETCHING = "fetching"
    COMPACTING = "compacting"


COUNTERS = (
    "windows", "windows_done", "windows_failed", "calls_issued", "calls_done", "calls_ahead", "calls", "retries",
    "weight", "klines", "file_klines", "waited_ms", "bytes", "files", "blocks", "blocks_done", "blocks_held", "rows",
    "changed",
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """A run as people see it. Weights, calls and klines are this run's own."""

    run: str
    state: State
    request: Request
    began_ms: int
    ended_ms: int | None
    now_ms: int
    counts: dict[str, int]
    records: Sequence[Record] = field(default=())

    @property
    def failed(self) -> dict[str, str]:
        """What is wanted and not in the lake, and why."""
        return named(self.records, Level.FAILED)

    @property
    def reported(self) -> dict[str, str]:
        """Files and times with which something was wrong, and what was done about it."""
        return named(self.records, Level.REPORT)

    @property
    def notes(self) -> dict[str, str]:
        """What a user should know of symbols."""
        return named(self.records, Level.NOTE)

    @property
    def seconds(self) -> float:
        return max(0.001, ((self.ended_ms or self.now_ms) - self.began_ms) / 1000)

    @property
    def calls_left(self) -> int:
        """Calls that are issued or will be, as far as is known."""
        return (
            max(0, self.counts["calls_issued"] - self.counts["calls_done"])
            + self.counts["calls_ahead"]
        )

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the pace so far, None before there is one."""
        done = self.counts["calls_done"]
        return self.calls_left * self.seconds / done if done else None


@dataclass(frozen=True, slots=True)
class BlockState:
    """A block that is under way, since when, and when its messages were last sent; Redis ms and µs."""

    phase: Phase
    since_ms: int
    sent_us: int
    """When its compaction was last sent for, where it is COMPACTING."""

    @classmethod
    def of_json(cls, told: bytes | str) -> Self:
        """Return the record that the scripts keep of a block."""
        block = json.loads(told)
        return cls(Phase(block["phase"]), int(block["since_ms"]), int(block["sent_us"]))


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a run has under way."""

    windows: int
    failed: int
    blocks: Sequence[BlockState]

    def since_ms(self, phase: Phase) -> list[int]:
        """Return since when each block of a phase is in it, Redis ms."""
        return [block.since_ms for block in self.blocks if block.phase is phase]

"""How far a run has come, and the work it has in flight."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.records import Level, Record, texts_by_name


class State(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self is not State.RUNNING


class Phase(StrEnum):
    """The phase of a partition that a run has claimed."""

    CLAIMED = "claimed"
    FETCHING = "fetching"
    COMPACTING = "compacting"


#: A run's counters. Weight, calls and klines are those of the run, not of the whole fleet.
COUNTERS = (
    "windows", "windows_done", "windows_failed",
    "calls_issued", "calls_done", "calls_ahead", "calls", "retries", "weight", "waited_ms",
    "klines", "file_klines", "bytes", "files", "rows", "changed",
    "absent", "absent_by_one",
    "partitions", "partitions_done", "partitions_held",
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """A run's state, counters and records, as read at `now_ms` (Redis time)."""

    run: str
    state: State
    request: Request
    began_ms: int
    ended_ms: int | None
    now_ms: int
    counts: dict[str, int]
    records: Sequence[Record] = field(default=())
    store: str = ""
    """The id of the store that the run is for; empty for a run of an earlier version."""
    symbols: int = 0
    """Symbols that were asked for. The request of a run that has ended has only the first ones."""
    moved: int = 0
    """Records that are in the run's report and no longer in Redis."""

    @property
    def is_whole(self) -> bool:
        """Whether Redis has all of the request and of the records, as until the run ends."""
        return not self.moved and len(self.request.symbols) == self.symbols

    @property
    def failed(self) -> dict[str, str]:
        """What was requested and is not in the lake, with the reason."""
        return texts_by_name(self.records, Level.FAILED)

    @property
    def reported(self) -> dict[str, str]:
        """Files and spans that had a fault, with what was done about it."""
        return texts_by_name(self.records, Level.REPORT)

    @property
    def notes(self) -> dict[str, str]:
        """Facts about symbols that a user should know."""
        return texts_by_name(self.records, Level.NOTE)

    @property
    def seconds(self) -> float:
        """Seconds since the run began, at least a millisecond."""
        return max(0.001, ((self.ended_ms or self.now_ms) - self.began_ms) / 1000)

    @property
    def calls_left(self) -> int:
        """Calls still to be made, as far as is known."""
        counts = self.counts
        return max(0, counts["calls_issued"] - counts["calls_done"]) + counts["calls_ahead"]

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the average rate so far, None before the first call."""
        done = self.counts["calls_done"]
        return self.calls_left * self.seconds / done if done else None


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The phase of a partition, since when, and when its compaction was last sent."""

    phase: Phase
    since_ms: int
    """Redis ms at which the phase began."""
    sent_us: int
    """Redis µs at which its compact task was last sent, if it is COMPACTING."""

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Return the state that the scripts have stored of a partition."""
        partition = json.loads(text)
        return cls(Phase(partition["phase"]), int(partition["since_ms"]), int(partition["sent_us"]))


@dataclass(frozen=True, slots=True)
class Backlog:
    """The work a run has in flight, for metrics."""

    windows: int
    failed: int
    partitions: Sequence[PartitionState]

    def since_ms(self, phase: Phase) -> list[int]:
        """Return for each partition in a phase the Redis ms at which the phase began."""
        return [partition.since_ms for partition in self.partitions if partition.phase is phase]

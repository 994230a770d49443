"""The model of a run that hypothesis compares real runs with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from klinefleet.tasks.runs.progress import Phase
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from tests.unit.helpers.klines import MINUTES

PARTITIONS = [Partition(MINUTES, f"2024-0{month}") for month in (1, 2)]
WINDOWS_OF = {
    partition: [
        Window(
            partition,
            Span(partition.span.start_ms + n * 60_000, partition.span.start_ms + n * 60_000 + 1),
        )
        for n in (0, 1)
    ]
    for partition in PARTITIONS
}


@dataclass
class ModelPartition:
    """The model of a partition that a run has."""

    phase: Phase = Phase.CLAIMED
    left: set[Window] = field(default_factory=set)
    fence: int = 0


@dataclass
class ModelRun:
    """The model of a run."""

    leader: int = 0
    partitions: dict[Partition, ModelPartition] = field(default_factory=dict)
    deferred: set[Partition] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

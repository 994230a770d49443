"""The model of a run that hypothesis compares real runs with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from klinefleet.tasks.runs.progress import Phase
from klinefleet.workers.domain.series import Block, Window
from klinefleet.workers.domain.spans import Span
from tests.unit.helpers.klines import MINUTES

BLOCKS = [Block(MINUTES, f"2024-0{month}") for month in (1, 2)]
WINDOWS_OF = {
    block: [
        Window(block, Span(block.span.start_ms + n * 60_000, block.span.start_ms + n * 60_000 + 1))
        for n in (0, 1)
    ]
    for block in BLOCKS
}


@dataclass
class ModelBlock:
    """The model of a block that a run has."""

    phase: Phase = Phase.CLAIMED
    left: set[Window] = field(default_factory=set)
    fence: int = 0


@dataclass
class ModelRun:
    """The model of a run."""

    leader: int = 0
    blocks: dict[Block, ModelBlock] = field(default_factory=dict)
    deferred: set[Block] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

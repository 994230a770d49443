"""Lists what a migration has to rewrite, in pieces that are rewritten on their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from klinefleet.tasks.runs.enqueue import task_label
from klinefleet.workers.domain.intervals import Period
from klinefleet.workers.domain.queues import COMPACT
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.lake import keys
from klinefleet.workers.services import Services

#: Months of one piece, where each is rewritten for itself: some seconds' work.
MONTHS_PER_PIECE = 12


@dataclass(frozen=True, slots=True)
class MigrationPiece:
    """Some months of a series; where a year is one partition, all those of a year."""

    series: Series
    months: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.series}/{self.months[0]}..{self.months[-1]}"

    @property
    def task(self) -> str:
        return "klines.migrate"

    @property
    def queue(self) -> str:
        return COMPACT

    @property
    def label(self) -> str:
        """What Flower shows of it."""
        return task_label(Partition(self.series, f"{self.months[0]}..{self.months[-1]}"))

    @property
    def partitions(self) -> list[Partition]:
        """The partitions of format 1."""
        return [Partition(self.series, month) for month in self.months]

    def to_arguments(self) -> list[Any]:
        """Return the piece as the arguments of its task, plain values."""
        return [str(self.series), list(self.months)]

    @classmethod
    def from_arguments(cls, series: str, months: list[str], *_: Any) -> MigrationPiece:
        """Return the piece of a task's arguments; what a later version appends is ignored."""
        return cls(Series.parse(series), tuple(months))


def list_pieces(services: Services) -> list[MigrationPiece]:
    """Return what has to be rewritten: every month of the lake.

    Where a month is a partition of this format too, its footer is rewritten. A migration that was
    interrupted leaves some that were; their task finds nothing to do.
    """
    found = (keys.partition_of(entry.key) for entry in services.store.list("lake"))
    months = sorted(one for one in found if one and len(one.period) == len("2024-01"))
    return [
        MigrationPiece(series, tuple(several))
        for series, of_series in groupby(months, key=lambda one: one.series)
        for several in _split(series, [one.period for one in of_series])
    ]


def _split(series: Series, months: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the months of a series by piece; those of one year together where it is a partition."""
    if series.period is Period.YEAR:
        for _, of_year in groupby(months, key=lambda month: month[: len("2024")]):
            yield tuple(of_year)
        return
    for first in range(0, len(months), MONTHS_PER_PIECE):
        yield tuple(months[first : first + MONTHS_PER_PIECE])

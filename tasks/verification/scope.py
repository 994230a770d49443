"""Selects the partitions that a verification checks, and splits them into pieces."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random

from klinefleet.tasks.verification.compare import Reference, Sample
from klinefleet.tasks.verification.pieces import VerificationPiece
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.lake import keys
from klinefleet.workers.services import Services

#: A second's work: a fleet then shares even the years of a single symbol.
PARTITIONS_PER_PIECE = 12


@dataclass(frozen=True, slots=True)
class Scope:
    """Which partitions to check. None, and no symbols, select all."""

    market: Market | None = None
    kind: Kind | None = None
    interval: Interval | None = None
    symbols: Collection[str] = ()
    start_ms: int | None = None
    end_ms: int | None = None

    def includes(self, partition: Partition) -> bool:
        """Return True if the partition is to be checked; one that is touched in time is."""
        series, bounds = partition.series, partition.span
        return (
            self.market in (None, series.market)
            and self.kind in (None, series.kind)
            and self.interval in (None, series.interval)
            and (not self.symbols or series.symbol in self.symbols)
            and (self.start_ms is None or self.start_ms < bounds.end_ms)
            and (self.end_ms is None or bounds.start_ms < self.end_ms)
        )


def list_partitions(services: Services, scope: Scope) -> list[Partition]:
    """Return the partitions of the lake in scope, sorted."""
    folder = keys.market_folder("lake", scope.market) if scope.market else "lake"
    found = keys.partitions_in(services.store.list(folder)).values()
    return sorted(partition for partition in found if scope.includes(partition))


def split_into_pieces(partitions: Sequence[Partition], sample: Sample) -> list[VerificationPiece]:
    """Return sorted partitions as pieces, each of one series.

    Where a sample is compared, its seed draws one partition of which at least a day is compared.
    """
    pieces = list[VerificationPiece]()
    drawn = _draw_partition(partitions, sample)
    for series, of_series in groupby(partitions, key=lambda partition: partition.series):
        several = list(of_series)
        for first in range(0, len(several), PARTITIONS_PER_PIECE):
            some = several[first : first + PARTITIONS_PER_PIECE]
            compared = drawn.period if drawn and drawn in some else ""
            pieces.append(
                VerificationPiece(series, tuple(one.period for one in some), sample, compared)
            )
    return pieces


def _draw_partition(partitions: Sequence[Partition], sample: Sample) -> Partition | None:
    if sample.reference is Reference.NONE or not partitions:
        return None
    return Random(sample.seed).choice(partitions)

"""Selects the partitions that a verification checks, and splits them into pieces."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random

from klinefleet.tasks.verification.compare import Reference, Sample
from klinefleet.tasks.verification.pieces import Piece
from klinefleet.workers.domain.intervals import Interval, month_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
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

    def includes(self, series: Series, month: str) -> bool:
        """Return True if the partition is to be checked; one that is touched in time is."""
        bounds = month_span(month)
        return (
            self.market in (None, series.market)
            and self.kind in (None, series.kind)
            and self.interval in (None, series.interval)
            and (not self.symbols or series.symbol in self.symbols)
            and (self.start_ms is None or self.start_ms < bounds.end_ms)
            and (self.end_ms is None or bounds.start_ms < self.end_ms)
        )


def list_partitions(services: Services, scope: Scope) -> list[tuple[Series, str]]:
    """Return the series and month of each partition of the lake in scope, sorted."""
    folder = keys.market_folder("lake", scope.market) if scope.market else "lake"
    named = (keys.partition_of(entry.key) for entry in services.store.list(folder))
    return sorted(partition for partition in named if partition and scope.includes(*partition))


def split_into_pieces(partitions: Sequence[tuple[Series, str]], sample: Sample) -> list[Piece]:
    """Return sorted partitions as pieces, each of one series.

    Where a sample is compared, its seed draws one partition of which at least a day is compared.
    """
    pieces = list[Piece]()
    drawn_series, drawn_month = _draw_partition(partitions, sample)
    for series, partitions_of_series in groupby(partitions, key=lambda partition: partition[0]):
        months = [month for _, month in partitions_of_series]
        for first in range(0, len(months), PARTITIONS_PER_PIECE):
            some = tuple(months[first : first + PARTITIONS_PER_PIECE])
            is_drawn = series == drawn_series and drawn_month in some
            pieces.append(Piece(series, some, sample, drawn_month if is_drawn else ""))
    return pieces


def _draw_partition(
    partitions: Sequence[tuple[Series, str]], sample: Sample
) -> tuple[Series | None, str]:
    if sample.reference is Reference.NONE or not partitions:
        return None, ""
    return Random(sample.seed).choice(partitions)

"""Which partitions a verification is about, and how they are parted into pieces."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from random import Random

from klinefleet.tasks.verification.compare import Against, Sample
from klinefleet.tasks.verification.pieces import Piece
from klinefleet.workers.domain.intervals import Interval, month_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.lake import keys
from klinefleet.workers.services import Services

#: Partitions of one piece: a second's work, so that a fleet shares even one symbol's years.
PARTITIONS_OF_PIECE = 12


@dataclass(frozen=True, slots=True)
class Scope:
    """Which partitions are meant; None and no symbols mean all."""

    market: Market | None = None
    kind: Kind | None = None
    interval: Interval | None = None
    symbols: Collection[str] = ()
    start_ms: int | None = None
    end_ms: int | None = None

    def has(self, series: Series, month: str) -> bool:
        """Return whether it is about this partition."""
        bounds = month_span(month)
        return (
            self.market in (None, series.market)
            and self.kind in (None, series.kind)
            and self.interval in (None, series.interval)
            and (not self.symbols or series.symbol in self.symbols)
            and (self.start_ms is None or self.start_ms < bounds.end_ms)
            and (self.end_ms is None or bounds.start_ms < self.end_ms)
        )


def partitions_of(services: Services, scope: Scope) -> list[tuple[Series, str]]:
    """Return the series and month of each partition in the lake that is meant, sorted."""
    listed = services.store.list(
        keys.market_folder("lake", scope.market) if scope.market else "lake"
    )
    parsed = (keys.partition_of(entry.key) for entry in listed)
    return sorted(found for found in parsed if found and scope.has(*found))


def pieces_of(partitions: Iterable[tuple[Series, str]], sample: Sample) -> list[Piece]:
    """Return partitions (sorted) in pieces; of one that the sample's seed draws at least a day is
    compared.
    """
    partitions, pieces = list(partitions), list[Piece]()
    is_compared = sample.against is not Against.NOTHING and partitions
    sure_series, sure_month = Random(sample.seed).choice(partitions) if is_compared else (None, "")
    for series, of_series in groupby(partitions, key=lambda found: found[0]):
        months = [month for _, month in of_series]
        for first in range(0, len(months), PARTITIONS_OF_PIECE):
            some = tuple(months[first : first + PARTITIONS_OF_PIECE])
            is_sure = series == sure_series and sure_month in some
            pieces.append(Piece(series, some, sample, sure_month if is_sure else ""))
    return pieces

"""Reads what the lake holds of groups of series: partitions, covered time, gaps and rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval, period_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.coverage import Coverage, Damaged, HeldTime
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.storage.objects import StoredObject
from klinefleet.workers.support.threads import Threads

#: Series whose gaps are found at the same time.
_CONCURRENT_SERIES = 8


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """All series of one market, kind and interval. They share the exchange's outages."""

    market: Market
    kind: Kind
    interval: Interval

    def __str__(self) -> str:
        return f"{self.market} {self.kind}{f' {self.interval}' if self.interval.is_grid else ''}"

    @classmethod
    def from_series(cls, series: Series) -> Group:
        return cls(series.market, series.kind, series.interval)

    def series(self, symbol: str) -> Series:
        """Return the group's series of a symbol."""
        return Series(self.market, self.kind, self.interval, symbol)


@dataclass
class ScannedSeries:
    """What the lake holds of one series."""

    held: HeldTime = field(default_factory=HeldTime)
    footers: dict[StoredObject, Footer] = field(default_factory=dict)
    damaged: dict[Partition, str] = field(default_factory=dict)
    """Partitions that do not decode → the error. They do not count as held."""


class CoverageScan:
    """One listing of the lake, and the footers of the partitions that are asked for.

    Every method raises StoreFault if the store fails.
    """

    def __init__(self, coverage: Coverage, folder: str, on_progress: Callable[[str], None]) -> None:
        """List the partitions below a folder; `on_progress` gets a line for each slow step."""
        self._coverage = coverage
        self._folder = folder
        self._on_progress = on_progress
        partitions = coverage.partitions(folder)
        self._partitions: dict[Series, dict[Partition, StoredObject]] = {}
        for entry, partition in sorted(partitions.items(), key=lambda listed: listed[1]):
            self._partitions.setdefault(partition.series, {})[partition] = entry
        on_progress(f"{len(partitions):,} partitions of {len(self._partitions):,} series")

    @property
    def series(self) -> list[Series]:
        """All series that have a partition, sorted."""
        return list(self._partitions)

    def read(
        self, wanted: Collection[Series], within: Collection[Span]
    ) -> dict[Series, ScannedSeries]:
        """Return what is held of series, in the partitions that one of the spans touches."""
        chosen = {
            entry: partition
            for series in wanted
            for partition, entry in self._partitions.get(series, {}).items()
            if any(not partition.span.clip(span).is_empty for span in within)
        }
        damaged: Damaged = {}
        scanned = {series: ScannedSeries() for series in wanted}
        self._read_footers(chosen, scanned, damaged)
        held = self._held_time(scanned, damaged)
        for entry, partition in chosen.items():
            if entry.key in damaged:
                one = scanned[partition.series]
                one.footers.pop(entry, None)
                one.damaged[partition] = damaged[entry.key]
        for series, one in scanned.items():
            one.held = held[series]
        return scanned

    def _read_footers(
        self,
        chosen: dict[StoredObject, Partition],
        scanned: dict[Series, ScannedSeries],
        damaged: Damaged,
    ) -> None:
        self._on_progress(f"reading the footers of {len(chosen):,} partitions")
        footers = self._coverage.footers_of(list(chosen), self._list_partitions, damaged)
        for entry, partition in chosen.items():
            if entry.key in footers:
                scanned[partition.series].footers[entry] = footers[entry.key]

    def _held_time(
        self, scanned: dict[Series, ScannedSeries], damaged: Damaged
    ) -> dict[Series, HeldTime]:
        """Return the held time of each series; gaps that no footer lists are found in the rows."""
        footers = [footer for one in scanned.values() for footer in one.footers.values()]
        without_gaps = sum(f.proof is None or f.proof.gaps is None for f in footers)
        if without_gaps:
            self._on_progress(
                f"finding the gaps of {without_gaps:,} partitions whose footers do not list them"
            )
        with Threads(_CONCURRENT_SERIES, thread_name_prefix="gaps") as threads:
            found = threads.map(
                lambda series: self._coverage.held_in(series, scanned[series].footers, damaged),
                scanned,
            )
            return dict(zip(scanned, found, strict=True))

    def count_rows(self, series: Series, scanned: ScannedSeries, span: Span) -> int:
        """Return how many rows are held within `span`.

        PartitionDamaged if events of a part of a partition are counted and do not decode.
        """
        if series.interval.is_grid:
            present = spans.clip(scanned.held.present, span)
            return sum(series.interval.opens(part.start_ms, part.end_ms) for part in present)
        return sum(
            self._count_events(series, entry, footer, span)
            for entry, footer in scanned.footers.items()
        )

    def _count_events(self, series: Series, entry: StoredObject, footer: Footer, span: Span) -> int:
        whole = period_span(keys.period_of(entry.key) or "")
        if footer.proof and whole.clip(span) == whole:
            return footer.proof.rows
        times = self._coverage.times(series, entry)[series.kind.time_column].dt.timestamp("ms")
        return int(((times >= span.start_ms) & (times < span.end_ms)).sum())

    def _list_partitions(self) -> list[StoredObject]:
        return list(self._coverage.partitions(self._folder))

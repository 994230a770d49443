"""What the lake holds of groups of series, found in one listing: their partitions, covered time,
gaps and rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import groupby

from klinefleet.tasks.coverage.holes import HeldSpans
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval, month_span
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.coverage import Coverage, Damaged
from klinefleet.workers.lake.footer import Footer
from klinefleet.workers.storage.objects import StoredObject
from klinefleet.workers.support.threads import Threads

#: Series whose rows are looked at, where their footers do not tell their gaps, at once.
_LOOKERS = 8


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """All series of one market, kind and interval: an outage of the exchange is one of theirs."""

    market: Market
    kind: Kind
    interval: Interval

    def __str__(self) -> str:
        return f"{self.market} {self.kind}{f' {self.interval}' if self.interval.is_grid else ''}"

    @classmethod
    def of(cls, series: Series) -> Group:
        return cls(series.market, series.kind, series.interval)

    def series(self, symbol: str) -> Series:
        """Return the group's series of a symbol."""
        return Series(self.market, self.kind, self.interval, symbol)


@dataclass
class ScannedSeries:
    """What was found of one series."""

    held: HeldSpans = field(default_factory=HeldSpans)
    footers: dict[StoredObject, Footer] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    """Months whose partition does not decode, with what is wrong: whatever it held does not count
    as held.
    """


class CoverageScan:
    """Looks at the lake once. StoreFault where the store does not tell.

    PartitionDamaged only where events of a part of a month have to be counted and do not decode.
    """

    def __init__(self, coverage: Coverage, folder: str, say: Callable[[str], None]) -> None:
        self._coverage = coverage
        self._folder = folder
        self._say = say
        listed = ((keys.partition_of(entry.key), entry) for entry in coverage.partitions(folder))
        found = sorted((*named, entry) for named, entry in listed if named)
        self._partitions = {
            series: {month: entry for _, month, entry in of_it}
            for series, of_it in groupby(found, lambda one: one[0])
        }
        say(f"{len(found):,} partitions of {len(self._partitions):,} series")

    @property
    def series(self) -> list[Series]:
        """All series that the lake holds anything of, sorted."""
        return list(self._partitions)

    def look(
        self, wanted: Collection[Series], within: Collection[Span]
    ) -> dict[Series, ScannedSeries]:
        """Return what is held of series, as far as it lies in a month that one of the spans
        touches.
        """
        chosen = {
            entry: series
            for series in wanted
            for month, entry in self._partitions.get(series, {}).items()
            if any(not month_span(month).clip(span).is_empty for span in within)
        }
        self._say(f"reading what {len(chosen):,} partitions tell of themselves")
        damaged: Damaged = {}
        footers = self._coverage.footers_of(list(chosen), self._again, damaged)
        found = {series: ScannedSeries() for series in wanted}
        for entry, series in chosen.items():
            if entry.key in footers:
                found[series].footers[entry] = footers[entry.key]
        untold = sum(f.proof is None or f.proof.gaps is None for f in footers.values())
        if untold:
            self._say(
                f"looking for gaps in {untold:,} of them that do not tell their own, unless they "
                "are known"
            )
        with Threads(_LOOKERS, thread_name_prefix="look") as lookers:
            gaps = lookers.map(
                lambda one: self._coverage.gaps(one, found[one].footers, damaged), wanted
            )
            found_gaps = dict(zip(wanted, gaps, strict=True))
        for entry, series in chosen.items():
            if entry.key in damaged:
                found[series].footers.pop(entry, None)
                found[series].damaged[keys.month_of(entry.key) or ""] = damaged[entry.key]
        for series, of in found.items():
            covered = spans.union(span for footer in of.footers.values() for span in footer.covered)
            of.held = HeldSpans(covered, found_gaps[series])
        return found

    def rows(self, series: Series, of: ScannedSeries, asked: Span) -> int:
        """Return how many rows are held within `asked`."""
        if series.interval.is_grid:
            return sum(
                series.interval.opens(p.start_ms, p.end_ms)
                for p in spans.clip(of.held.present, asked)
            )
        return sum(
            self._events(series, entry, footer, asked) for entry, footer in of.footers.items()
        )

    def _again(self) -> list[StoredObject]:
        return self._coverage.partitions(self._folder)

    def _events(self, series: Series, entry: StoredObject, footer: Footer, asked: Span) -> int:
        month = month_span(keys.month_of(entry.key) or "")
        if footer.proof and month.clip(asked) == month:
            return footer.proof.rows
        times = self._coverage.times(series, entry)[series.kind.time_column].dt.timestamp("ms")
        return int(((times >= asked.start_ms) & (times < asked.end_ms)).sum())

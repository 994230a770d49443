"""The time of each series that the lake holds, read from the partitions' footers.

A footer never changes under its ETag, so each is read once on a machine, then cached. Planning over
a lake that holds everything costs the store its listings and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TypeVar

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.lake.footers.footer import Footer, read_footer
from klinefleet.workers.lake.footers.proof import gaps_in
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from klinefleet.workers.support.threads import Threads

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Partitions that do not decode: key → error.
Damaged = dict[str, str]

#: Threads that read footers: a bucket takes some milliseconds for each.
_READERS = 16
#: Footers that a thread reads before it takes the next ones.
_READ_AT_A_TIME = 32


@dataclass(frozen=True, slots=True)
class HeldTime:
    """The time of a series that the lake holds; lists of spans, oldest first."""

    covered: list[Span] = field(default_factory=list)
    """What was fetched; neighbours are joined."""
    gaps: list[Span] = field(default_factory=list)
    """The parts of it in which the calendar has rows and no answer had one."""
    unconfirmed: list[Span] = field(default_factory=list)
    """The gaps, and the rows with a faulty value, that one witness alone speaks of."""

    @property
    def present(self) -> list[Span]:
        """The time that has its rows."""
        return spans.without(self.covered, self.gaps)

    @property
    def absent_by_one(self) -> list[Span]:
        """The gaps that one witness alone speaks of."""
        return spans.both(self.gaps, self.unconfirmed)


class Coverage:
    """What the lake holds of each series."""

    def __init__(self, files: ObjectStore, footer_cache: FooterCache) -> None:
        self._files = files
        self._footer_cache = footer_cache

    def covered(self, series: Series) -> list[Span]:
        """Return the time for which the lake holds every row that exists, oldest first."""
        return self.held(series).covered

    def held(self, series: Series) -> HeldTime:
        """Return the time of a series that the lake holds."""
        return self.held_in(series, self._footers(keys.series_folder("lake", series)))

    def held_by_group(self, market: Market, kind: Kind, interval: Interval) -> dict[str, HeldTime]:
        """Return the same for each symbol of a group that has partitions, by one listing."""
        footers: dict[str, dict[StoredObject, Footer]] = {}
        for entry, footer in self._footers(
            keys.group_folder("lake", market, kind, interval)
        ).items():
            footers.setdefault(keys.symbol_of(entry.key) or "", {})[entry] = footer
        return {
            symbol: self.held_in(Series(market, kind, interval, symbol), several)
            for symbol, several in footers.items()
        }

    def held_in(
        self, series: Series, partitions: dict[StoredObject, Footer], damaged: Damaged | None = None
    ) -> HeldTime:
        """Return the time that some of a series' partitions hold.

        Most footers have the gaps. Where one does not (written by an earlier version, or too many
        gaps) they are found in the rows. If `damaged` is given, partitions that do not decode are
        added to it and left out; else PartitionDamaged.
        """
        gaps = self._gaps(series, partitions, damaged)
        sound = {entry: footer for entry, footer in partitions.items() if entry in gaps}
        return HeldTime(
            spans.union(span for footer in sound.values() for span in footer.covered),
            spans.union(gap for found in gaps.values() for gap in found),
            spans.union(
                span for entry, footer in sound.items() for span in footer.unconfirmed(gaps[entry])
            ),
        )

    def origins(self, series: Series) -> list[Answer]:
        """Return the origins of a series' held rows, oldest first."""
        footers = self.footers(keys.series_folder("lake", series))
        return sorted(origin for footer in footers.values() for origin in footer.origins)

    def footers(self, folder: str) -> dict[str, Footer]:
        """Return the footers of the partitions below a folder, by key."""
        return {entry.key: footer for entry, footer in self._footers(folder).items()}

    def _footers(self, folder: str) -> dict[StoredObject, Footer]:
        entries = list(self.partitions(folder))
        footers = self.footers_of(entries, lambda: self.partitions(folder))
        return {entry: footers[entry.key] for entry in entries}

    def footer(self, partition: Partition) -> Footer:
        """Return the footer of a partition as it is now; an empty one if there is no such object.

        PartitionDamaged if it does not decode.
        """
        key = keys.partition(partition)
        return read_footer(lambda size: self._files.read_tail(key, size), key)

    def cache_footers(self, published: Iterable[tuple[StoredObject, Footer]]) -> None:
        """Cache the footers of partitions that this machine has just written."""
        self._footer_cache.put(published)

    def partitions(self, folder: str) -> dict[StoredObject, Partition]:
        """Return the partitions below a folder, sorted by key."""
        return keys.partitions_in(self._files.list(folder))

    def footers_of(
        self,
        partitions: list[StoredObject],
        again: Callable[[], Iterable[StoredObject]],
        damaged: Damaged | None = None,
    ) -> dict[str, Footer]:
        """Return the footers of these partitions, by key; `again` lists the partitions once more.

        If `damaged` is given, those that do not decode are added to it and left out; else
        PartitionDamaged.
        """
        cached = self._footer_cache.get(partitions)
        unread = [entry for entry in partitions if entry.key not in cached]
        footers = self._read_all(unread, damaged)
        read = {entry: one for entry, one in zip(unread, footers, strict=True) if one is not None}
        if read:
            # A partition that was replaced between the listing and the reading must not be cached
            # as the old version.
            current = set(again())
            self._footer_cache.put(
                (entry, footer) for entry, footer in read.items() if entry in current
            )
        return cached | {entry.key: footer for entry, footer in read.items()}

    def _read_all(
        self, entries: list[StoredObject], damaged: Damaged | None
    ) -> list[Footer | None]:
        """Return the footers of partitions, read by several threads."""
        if len(entries) <= 1:
            return [self._read(entry, damaged) for entry in entries]
        # Several at a time: to hand a thread its work costs as much as to read a local file's end.
        several = max(1, min(_READ_AT_A_TIME, len(entries) // _READERS))
        parts = [entries[n : n + several] for n in range(0, len(entries), several)]
        with Threads(_READERS, thread_name_prefix="footer") as readers:
            read = readers.map(lambda part: [self._read(entry, damaged) for entry in part], parts)
            return list(chain.from_iterable(read))

    def _gaps(
        self, series: Series, partitions: dict[StoredObject, Footer], damaged: Damaged | None
    ) -> dict[StoredObject, list[Span]]:
        """Return the gaps in the covered time of each partition that is not damaged."""
        gaps = {
            entry: list(footer.proof.gaps)
            for entry, footer in partitions.items()
            if footer.proof and footer.proof.gaps is not None
        }
        without = [entry for entry in partitions if entry not in gaps]
        if not without:
            return gaps
        if not series.interval.is_grid:
            return gaps | {entry: [] for entry in without}
        cached = self._footer_cache.get_gaps(without)
        gaps |= {entry: cached[entry.key] for entry in without if entry.key in cached}
        unread = {entry: partitions[entry] for entry in without if entry.key not in cached}
        return gaps | self._gaps_in_rows(series, unread, damaged)

    def times(self, series: Series, entry: StoredObject) -> pl.DataFrame:
        """Return the times of a partition's rows, one column; no row if it was just deleted."""
        time = series.kind.time_column
        body = self._files.read(entry.key)
        try:
            return (
                pl.read_parquet(body, columns=[time]) if body else no_rows(series.kind).select(time)
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            logger.debug("%s does not decode: %s", entry.key, error)
            raise PartitionDamaged(
                f"{entry.key}: its rows do not decode; it was left as it is"
            ) from error

    def _gaps_in_rows(
        self, series: Series, partitions: dict[StoredObject, Footer], damaged: Damaged | None
    ) -> dict[StoredObject, list[Span]]:
        """Return the gaps of partitions, found in their rows, and cache them."""
        found: dict[StoredObject, list[Span]] = {}
        for entry, footer in partitions.items():
            times = _note_damage(damaged, entry, partial(self.times, series, entry))
            if times is not None:
                covered = footer.covered
                found[entry] = [gap for span in covered for gap in gaps_in(series, times, span)]
        if found:
            # A partition that was replaced meanwhile must not be cached as the old version.
            self._footer_cache.put_gaps(
                (entry, gaps) for entry, gaps in found.items() if self._is_unchanged(entry)
            )
        return found

    def _is_unchanged(self, entry: StoredObject) -> bool:
        return self._files.etag(entry.key) == entry.etag

    def _read(self, entry: StoredObject, damaged: Damaged | None) -> Footer | None:
        return _note_damage(
            damaged,
            entry,
            lambda: read_footer(lambda size: self._files.read_tail(entry.key, size), entry.key),
        )


def _note_damage(damaged: Damaged | None, entry: StoredObject, read: Callable[[], T]) -> T | None:
    """Return what `read` returns; None if the partition is damaged and `damaged` has noted it."""
    try:
        return read()
    except PartitionDamaged as error:
        if damaged is None:
            raise
        damaged[entry.key] = str(error)
        return None

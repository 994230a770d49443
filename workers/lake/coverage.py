"""Which time of which series is held: read from the partitions' footers, remembered by their ETags.

A footer never changes under its ETag, so what has been read once is kept on this machine and not
asked for again: planning over a lake that holds everything costs the store its listings and nothing
else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeVar

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footer import Footer, Origin, footer_of
from klinefleet.workers.lake.footer_cache import FooterCache
from klinefleet.workers.lake.proof import gaps_in
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from klinefleet.workers.support.threads import Threads

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: What is wrong with partitions that do not decode, by key.
Damaged = dict[str, str]

#: Footers that are read at once. A folder answers from memory, a bucket takes some milliseconds for
#: each.
_READERS, _READ_IN_ONE_GO = 16, 32


class Coverage:
    """Tells what the lake holds. `memory` is a file on this machine; without one nothing is
    remembered.
    """

    def __init__(self, files: ObjectStore, memory: FooterCache) -> None:
        self._files = files
        self._memory = memory

    def covered(self, series: Series) -> list[Span]:
        """Return the time for which the lake holds every row that exists, oldest first."""
        footers = self.footers(keys.series_folder("lake", series))
        return spans.union(span for footer in footers.values() for span in footer.covered)

    def covered_group(
        self, market: Market, kind: Kind, interval: Interval
    ) -> dict[str, list[Span]]:
        """Return the same for every symbol that the lake holds anything of, in one listing."""
        held: dict[str, list[Span]] = {}
        for key, footer in self.footers(keys.group_folder("lake", market, kind, interval)).items():
            held.setdefault(keys.symbol_of(key) or "", []).extend(footer.covered)
        return {symbol: spans.union(covered) for symbol, covered in held.items()}

    def origins(self, series: Series) -> list[Origin]:
        """Return where the held rows of a series came from, oldest first."""
        footers = self.footers(keys.series_folder("lake", series))
        return sorted(origin for footer in footers.values() for origin in footer.origins)

    def footers(self, folder: str) -> dict[str, Footer]:
        """Return the footers of the partitions below a folder, by key."""
        return self.footers_of(self.partitions(folder), lambda: self.partitions(folder))

    def remember(self, published: Iterable[tuple[StoredObject, Footer]]) -> None:
        """Keep the footers of partitions that were just written here, so that nobody here has to
        read them.
        """
        self._memory.keep(published)

    def partitions(self, folder: str) -> list[StoredObject]:
        """Return the partitions below a folder, sorted by key."""
        return [entry for entry in self._files.list(folder) if keys.month_of(entry.key)]

    def footers_of(
        self,
        partitions: list[StoredObject],
        again: Callable[[], Iterable[StoredObject]],
        damaged: Damaged | None = None,
    ) -> dict[str, Footer]:
        """Return the footers of these partitions, by key; `again` lists them once more.

        With `damaged`, those that do not decode are noted there and left out; without,
        PartitionDamaged.
        """
        known = self._memory.recall(partitions)
        unknown = [entry for entry in partitions if entry.key not in known]
        if len(unknown) > 1:
            with Threads(_READERS, thread_name_prefix="footer") as readers:
                # Several in one go: to hand a thread its work costs as much as to read a local
                # file's end.
                several = max(1, min(_READ_IN_ONE_GO, len(unknown) // _READERS))
                parts = [unknown[n : n + several] for n in range(0, len(unknown), several)]
                told = list(
                    readers.map(lambda part: [self._read(entry, damaged) for entry in part], parts)
                )
        else:
            told = [[self._read(entry, damaged) for entry in unknown]]
        found = zip(unknown, chain.from_iterable(told), strict=True)
        read = {entry: footer for entry, footer in found if footer is not None}
        if read:
            # A partition that was replaced between the listing and the reading must not be
            # remembered as the old one.
            still = set(again())
            self._memory.keep((entry, footer) for entry, footer in read.items() if entry in still)
        return known | {entry.key: footer for entry, footer in read.items()}

    def gaps(
        self, series: Series, partitions: dict[StoredObject, Footer], damaged: Damaged | None = None
    ) -> list[Span]:
        """Return where the exchange had no rows in the covered time of some partitions of a series,
        oldest first.

        Most footers tell it. Where one does not, of an earlier version or with too many gaps, its
        rows are looked at; with `damaged`, those that do not decode are noted there and left out;
        without, PartitionDamaged.
        """
        told = {
            entry: list(f.proof.gaps)
            for entry, f in partitions.items()
            if f.proof and f.proof.gaps is not None
        }
        untold = (
            [entry for entry in partitions if entry not in told] if series.interval.is_grid else []
        )
        known = self._memory.recall_gaps(untold) if untold else {}
        told |= {entry: known[entry.key] for entry in untold if entry.key in known}
        unknown = [entry for entry in untold if entry not in told]
        looked = {entry: self._look(series, entry, partitions[entry], damaged) for entry in unknown}
        found = {entry: gaps for entry, gaps in looked.items() if gaps is not None}
        if found:
            # As above: what was replaced meanwhile is another partition.
            self._memory.keep_gaps(
                (entry, gaps) for entry, gaps in found.items() if self._is_still(entry)
            )
        told |= found
        return spans.union(gap for gaps in told.values() for gap in gaps)

    def times(self, series: Series, entry: StoredObject) -> pl.DataFrame:
        """Return the times of a partition's rows as its one column; none where it has just gone."""
        time = series.kind.time_column
        body = self._files.read(entry.key)
        try:
            return (
                pl.read_parquet(body, columns=[time]) if body else no_rows(series.kind).select(time)
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise PartitionDamaged(
                f"{entry.key} does not decode: {error}; it was left as it is"
            ) from error

    def _look(
        self, series: Series, entry: StoredObject, footer: Footer, damaged: Damaged | None
    ) -> list[Span] | None:
        times = _note_damage(damaged, entry, lambda: self.times(series, entry))
        return (
            None
            if times is None
            else [gap for span in footer.covered for gap in gaps_in(series, times, span)]
        )

    def _is_still(self, entry: StoredObject) -> bool:
        return self._files.etag(entry.key) == entry.etag

    def _read(self, entry: StoredObject, damaged: Damaged | None) -> Footer | None:
        return _note_damage(
            damaged,
            entry,
            lambda: footer_of(lambda size: self._files.read_tail(entry.key, size), entry.key),
        )


def _note_damage(damaged: Damaged | None, entry: StoredObject, read: Callable[[], T]) -> T | None:
    """Return what `read` does, or None where the partition is damaged and that is to be noted."""
    try:
        return read()
    except PartitionDamaged as error:
        if damaged is None:
            raise
        damaged[entry.key] = str(error)
        return None

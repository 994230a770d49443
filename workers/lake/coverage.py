"""Which time of which series is held: read from the partitions' footers, remembered by their ETags.

A footer never changes under its ETag, so what has been read once is kept on this machine and not asked for again:
planning over a lake that holds everything costs the store its listings and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TypeVar

import polars as pl

from workers import spans
from workers.errors import PartitionDamaged
from workers.lake import keys
from workers.lake.files import Entry, Files
from workers.lake.footer import Footer, Origin, footer_of
from workers.lake.proof import gaps_in
from workers.model import Interval, Kind, Market, Series, Span
from workers.schema import SCHEMAS, time_column
from workers.threads import Threads

logger = logging.getLogger(__name__)
T = TypeVar("T")
#: What is wrong with partitions that do not decode, by key.
Damaged = dict[str, str]

#: Footers that are read at once. A folder answers from memory, a bucket takes some milliseconds for each.
_READERS, _READ_IN_ONE_GO = 16, 32
#: Footers looked up or noted in one statement.
_BATCH = 500
#: What is remembered, each in a table of its own with a column for it: footers, and what partitions lack that do not
#: tell it in their footers.
_FOOTERS, _LOOKS = ("footers", "footer"), ("looks", "look")
#: Footers remembered at most: about a kilobyte each; the oldest go first.
_MOST_KEPT = 500_000


class Coverage:
    """Tells what the lake holds. `memory` is a file on this machine; without one nothing is remembered."""

    def __init__(self, files: Files, memory: Memory) -> None:
        self._files = files
        self._memory = memory

    def covered(self, series: Series) -> list[Span]:
        """Return the time for which the lake holds every row that exists, oldest first."""
        footers = self.footers(keys.series_folder("lake", series))
        return spans.union(span for footer in footers.values() for span in footer.covered)

    def covered_group(self, market: Market, kind: Kind, interval: Interval) -> dict[str, list[Span]]:
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

    def remember(self, published: Iterable[tuple[Entry, Footer]]) -> None:
        """Keep the footers of partitions that were just written here, so that nobody here has to read them."""
        self._memory.keep(published)

    def partitions(self, folder: str) -> list[Entry]:
        """Return the partitions below a folder, sorted by key."""
        return [entry for entry in self._files.list(folder) if keys.month_of(entry.key)]

    def footers_of(
        self, partitions: list[Entry], again: Callable[[], Iterable[Entry]], damaged: Damaged | None = None
    ) -> dict[str, Footer]:
        """Return the footers of these partitions, by key; `again` lists them once more.

        With `damaged`, those that do not decode are noted there and left out; without, PartitionDamaged.
        """
        known = self._memory.recall(partitions)
        unknown = [entry for entry in partitions if entry.key not in known]
        if len(unknown) > 1:
            with Threads(_READERS, thread_name_prefix="footer") as readers:
                # Several in one go: to hand a thread its work costs as much as to read a local file's end.
                several = max(1, min(_READ_IN_ONE_GO, len(unknown) // _READERS))
                parts = [unknown[n : n + several] for n in range(0, len(unknown), several)]
                told = list(readers.map(lambda part: [self._read(entry, damaged) for entry in part], parts))
        else:
            told = [[self._read(entry, damaged) for entry in unknown]]
        found = zip(unknown, chain.from_iterable(told), strict=True)
        read = {entry: footer for entry, footer in found if footer is not None}
        if read:
            # A partition that was replaced between the listing and the reading must not be remembered as the old one.
            still = set(again())
            self._memory.keep((entry, footer) for entry, footer in read.items() if entry in still)
        return known | {entry.key: footer for entry, footer in read.items()}

    def gaps(self, series: Series, partitions: dict[Entry, Footer], damaged: Damaged | None = None) -> list[Span]:
        """Return where the exchange had no rows in the covered time of some partitions of a series, oldest first.

        Most footers tell it. Where one does not, of an earlier version or with too many gaps, its rows are looked at;
        with `damaged`, those that do not decode are noted there and left out; without, PartitionDamaged.
        """
        told = {entry: list(f.proof.gaps) for entry, f in partitions.items() if f.proof and f.proof.gaps is not None}
        untold = [entry for entry in partitions if entry not in told] if series.interval.is_grid else []
        known = self._memory.recall_gaps(untold) if untold else {}
        told |= {entry: known[entry.key] for entry in untold if entry.key in known}
        unknown = [entry for entry in untold if entry not in told]
        looked = {entry: self._look(series, entry, partitions[entry], damaged) for entry in unknown}
        found = {entry: gaps for entry, gaps in looked.items() if gaps is not None}
        if found:
            # As above: what was replaced meanwhile is another partition.
            self._memory.keep_gaps((entry, gaps) for entry, gaps in found.items() if self._is_still(entry))
        told |= found
        return spans.union(gap for gaps in told.values() for gap in gaps)

    def times(self, series: Series, entry: Entry) -> pl.DataFrame:
        """Return the times of a partition's rows as its one column; none where it has just gone."""
        time = time_column(series.kind)
        body = self._files.read(entry.key)
        try:
            return pl.read_parquet(body, columns=[time]) if body else SCHEMAS[series.kind].to_frame().select(time)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise PartitionDamaged(f"{entry.key} does not decode: {error}; it was left as it is") from error

    def _look(self, series: Series, entry: Entry, footer: Footer, damaged: Damaged | None) -> list[Span] | None:
        times = _noting(damaged, entry, lambda: self.times(series, entry))
        return None if times is None else [gap for span in footer.covered for gap in gaps_in(series, times, span)]

    def _is_still(self, entry: Entry) -> bool:
        return self._files.etag(entry.key) == entry.etag

    def _read(self, entry: Entry, damaged: Damaged | None) -> Footer | None:
        return _noting(damaged, entry, lambda: footer_of(lambda size: self._files.tail(entry.key, size), entry.key))


class Memory:
    """Footers, and the gaps that were found by looking, by store, key and ETag; a path of None keeps nothing.

    They are in an SQLite file that several processes may share.
    It is only ever a saving: where it cannot be read or written, footers are read from the store again.
    """

    def __init__(self, store_url: str, path: Path | None) -> None:
        self._store = store_url if "://" in store_url else str(Path(store_url).absolute())
        self._path = path
        self._lock = threading.Lock()

    def recall(self, entries: list[Entry]) -> dict[str, Footer]:
        """Return the footers that are known of just these versions, by key."""
        return self._recall(_FOOTERS, entries, lambda told: Footer.of(json.loads(told)))

    def keep(self, read: Iterable[tuple[Entry, Footer]]) -> None:
        """Remember footers."""
        self._keep(_FOOTERS, ((entry, json.dumps(footer.metadata())) for entry, footer in read))

    def recall_gaps(self, entries: list[Entry]) -> dict[str, list[Span]]:
        """Return what was found to lack rows in just these versions, by key."""
        return self._recall(_LOOKS, entries, lambda told: [Span(*pair) for pair in json.loads(told)])

    def keep_gaps(self, found: Iterable[tuple[Entry, list[Span]]]) -> None:
        """Remember what partitions lack that do not tell it in their footers."""
        told = ((entry, [[gap.start_ms, gap.end_ms] for gap in gaps]) for entry, gaps in found)
        self._keep(_LOOKS, ((entry, json.dumps(gaps)) for entry, gaps in told))

    def _recall(self, table: tuple[str, str], entries: list[Entry], of: Callable[[str], T]) -> dict[str, T]:
        etags = {entry.key: entry.etag for entry in entries}
        found: dict[str, T] = {}
        try:
            for batch in _batches(list(etags)):
                marks = ",".join("?" * len(batch))
                asked = f"SELECT key, etag, {table[1]} FROM {table[0]} WHERE store = ? AND key IN ({marks})"
                for key, etag, told in self._run(asked, [self._store, *batch]):
                    if etags[key] == etag:
                        found[key] = of(told)
        except (sqlite3.Error, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            logger.warning("coverage: what was remembered in %s cannot be read: %s", self._path, error)
        return found

    def _keep(self, table: tuple[str, str], told: Iterable[tuple[Entry, str]]) -> None:
        rows = [(self._store, entry.key, entry.etag, text) for entry, text in told]
        if not rows or not self._path:
            return
        name = table[0]
        try:
            with self._lock, self._opened(self._path) as memory, memory:
                memory.executemany(f"REPLACE INTO {name} VALUES (?, ?, ?, ?)", rows)
                memory.execute(f"DELETE FROM {name} WHERE rowid <= (SELECT max(rowid) FROM {name}) - ?", [_MOST_KEPT])
        except (sqlite3.Error, OSError, ValueError) as error:
            logger.warning("coverage: nothing can be remembered in %s: %s", self._path, error)

    def _run(self, statement: str, values: list[str]) -> list[tuple[str, str, str]]:
        if not self._path or not self._path.exists():
            return []
        with self._lock, self._opened(self._path) as memory:
            return memory.execute(statement, values).fetchall()

    @contextmanager
    def _opened(self, path: Path) -> Iterator[sqlite3.Connection]:
        """Yield the file with its tables; it is closed after, also where it turns out to be no such file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=10)) as memory:
            # Changing to it fails while others are at work, whatever the timeout; once changed, it stays.
            if memory.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                memory.execute("PRAGMA journal_mode = WAL")
            memory.execute("PRAGMA synchronous = OFF")
            for table, told in (_FOOTERS, _LOOKS):
                columns = f"store TEXT, key TEXT, etag TEXT, {told} TEXT, UNIQUE (store, key)"
                memory.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            yield memory


def memory_path() -> Path:
    """Return where this machine remembers footers: below XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "klinefleet" / "coverage.sqlite"


def _noting(damaged: Damaged | None, entry: Entry, read: Callable[[], T]) -> T | None:
    """Return what `read` does, or None where the partition is damaged and that is to be noted."""
    try:
        return read()
    except PartitionDamaged as error:
        if damaged is None:
            raise
        damaged[entry.key] = str(error)
        return None


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]

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
from contextlib import closing
from pathlib import Path

from workers import spans
from workers.lake import keys
from workers.lake.files import Entry, Files
from workers.lake.footer import Footer, Origin, footer_of
from workers.model import Interval, Kind, Market, Series, Span
from workers.threads import Threads

logger = logging.getLogger(__name__)

#: Footers that are read at once. A folder answers from memory, a bucket takes some milliseconds for each.
_READERS = 16
#: Footers looked up or noted in one statement.
_BATCH = 500
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
        return self.footers_of(self._partitions(folder), lambda: self._partitions(folder))

    def footers_of(self, partitions: list[Entry], again: Callable[[], Iterable[Entry]]) -> dict[str, Footer]:
        """Return the footers of these partitions, by key; `again` lists them once more."""
        known = self._memory.recall(partitions)
        unknown = [entry for entry in partitions if entry.key not in known]
        if len(unknown) > 1:
            with Threads(_READERS, thread_name_prefix="footer") as readers:
                read = list(readers.map(self._read, unknown))
        else:
            read = [self._read(entry) for entry in unknown]
        if unknown:
            # A partition that was replaced between the listing and the reading must not be remembered as the old one.
            still = set(again())
            self._memory.keep((entry, footer) for entry, footer in zip(unknown, read, strict=True) if entry in still)
        return known | {entry.key: footer for entry, footer in zip(unknown, read, strict=True)}

    def _partitions(self, folder: str) -> list[Entry]:
        return [entry for entry in self._files.list(folder) if keys.month_of(entry.key)]

    def _read(self, entry: Entry) -> Footer:
        return footer_of(lambda size: self._files.tail(entry.key, size), entry.key)


class Memory:
    """Footers by store, key and ETag, in an SQLite file that several processes may share; None keeps nothing.

    It is only ever a saving: where it cannot be read or written, footers are read from the store again.
    """

    def __init__(self, store_url: str, path: Path | None) -> None:
        self._store = store_url if "://" in store_url else str(Path(store_url).absolute())
        self._path = path
        self._lock = threading.Lock()

    def recall(self, entries: list[Entry]) -> dict[str, Footer]:
        """Return the footers that are known of just these versions, by key."""
        etags = {entry.key: entry.etag for entry in entries}
        found: dict[str, Footer] = {}
        try:
            for batch in _batches(list(etags)):
                marks = ",".join("?" * len(batch))
                asked = f"SELECT key, etag, footer FROM footers WHERE store = ? AND key IN ({marks})"
                for key, etag, footer in self._run(asked, [self._store, *batch]):
                    if etags[key] == etag:
                        found[key] = Footer.of(json.loads(footer))
        except (sqlite3.Error, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            logger.warning("coverage: what was remembered in %s cannot be read: %s", self._path, error)
        return found

    def keep(self, read: Iterable[tuple[Entry, Footer]]) -> None:
        """Remember footers."""
        rows = [(self._store, entry.key, entry.etag, json.dumps(footer.metadata())) for entry, footer in read]
        if not rows or not self._path:
            return
        try:
            with self._lock, closing(self._open(self._path)) as memory, memory:
                memory.executemany("REPLACE INTO footers VALUES (?, ?, ?, ?)", rows)
                memory.execute("DELETE FROM footers WHERE rowid <= (SELECT max(rowid) FROM footers) - ?", [_MOST_KEPT])
        except (sqlite3.Error, OSError, ValueError) as error:
            logger.warning("coverage: nothing can be remembered in %s: %s", self._path, error)

    def _run(self, statement: str, values: list[str]) -> list[tuple[str, str, str]]:
        if not self._path or not self._path.exists():
            return []
        with self._lock, closing(self._open(self._path)) as memory:
            return memory.execute(statement, values).fetchall()

    def _open(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        memory = sqlite3.connect(path, timeout=10)
        # Changing to it fails while others are at work, whatever the timeout; once changed, it stays.
        if memory.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            memory.execute("PRAGMA journal_mode = WAL")
        memory.execute("PRAGMA synchronous = OFF")
        memory.execute(
            "CREATE TABLE IF NOT EXISTS footers (store TEXT, key TEXT, etag TEXT, footer TEXT, UNIQUE (store, key))"
        )
        return memory


def memory_path() -> Path:
    """Return where this machine remembers footers: below XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "klinefleet" / "coverage.sqlite"


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]

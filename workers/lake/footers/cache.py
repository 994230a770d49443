"""Caches footers on this machine, by key and ETag, in an SQLite file."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.storage.objects import StoredObject
from klinefleet.workers.support.folders import cache_folder

logger = logging.getLogger(__name__)

T = TypeVar("T")


#: Footers read or written in one statement.
_BATCH = 500
#: A table and its column: of footers, and of gaps that were found in the rows because the footer
#: does not have them.
_FOOTERS, _GAPS = ("footers", "footer"), ("looks", "look")
#: Footers that are kept, about a kilobyte each; the oldest go first.
MAX_KEPT = 500_000


class FooterCache:
    """Footers, and gaps found in rows, by store, key and ETag. A path of None keeps nothing.

    Several processes may share the file. It only saves requests: if it cannot be read or written,
    footers are read from the store again.
    """

    def __init__(self, store_url: str, path: Path | None, *, max_kept: int = MAX_KEPT) -> None:
        self._store = store_url if "://" in store_url else str(Path(store_url).absolute())
        self._path = path
        self._most_kept = max_kept
        self._lock = threading.Lock()

    def get(self, entries: list[StoredObject]) -> dict[str, Footer]:
        """Return the cached footers of these versions of partitions, by key."""
        return self._get(_FOOTERS, entries, lambda text: Footer.from_metadata(json.loads(text)))

    def put(self, read: Iterable[tuple[StoredObject, Footer]]) -> None:
        """Cache footers."""
        self._put(_FOOTERS, ((entry, json.dumps(footer.metadata())) for entry, footer in read))

    def get_gaps(self, entries: list[StoredObject]) -> dict[str, list[Span]]:
        """Return the cached gaps of these versions of partitions, by key."""
        return self._get(_GAPS, entries, lambda text: [Span(*pair) for pair in json.loads(text)])

    def put_gaps(self, found: Iterable[tuple[StoredObject, list[Span]]]) -> None:
        """Cache the gaps of partitions that do not have them in their footers."""
        pairs = ((entry, [[gap.start_ms, gap.end_ms] for gap in gaps]) for entry, gaps in found)
        self._put(_GAPS, ((entry, json.dumps(gaps)) for entry, gaps in pairs))

    def _get(
        self, table: tuple[str, str], entries: list[StoredObject], parse: Callable[[str], T]
    ) -> dict[str, T]:
        etags = {entry.key: entry.etag for entry in entries}
        found: dict[str, T] = {}
        try:
            for batch in _batches(list(etags)):
                marks = ",".join("?" * len(batch))
                statement = (
                    f"SELECT key, etag, {table[1]} FROM {table[0]} WHERE store = ? AND key IN "
                    f"({marks})"
                )
                for key, etag, text in self._run(statement, [self._store, *batch]):
                    if etags[key] == etag:
                        found[key] = parse(text)
        except (sqlite3.Error, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            logger.warning("the footer cache %s cannot be read: %s", self._path, error)
        return found

    def _put(self, table: tuple[str, str], texts: Iterable[tuple[StoredObject, str]]) -> None:
        rows = [(self._store, entry.key, entry.etag, text) for entry, text in texts]
        if not rows or not self._path:
            return
        name = table[0]
        try:
            with self._lock, self._opened(self._path) as database, database:
                database.executemany(f"REPLACE INTO {name} VALUES (?, ?, ?, ?)", rows)
                database.execute(
                    f"DELETE FROM {name} WHERE rowid <= (SELECT max(rowid) FROM {name}) - ?",
                    [self._most_kept],
                )
        except (sqlite3.Error, OSError, ValueError) as error:
            logger.warning("the footer cache %s cannot be written: %s", self._path, error)

    def _run(self, statement: str, values: list[str]) -> list[tuple[str, str, str]]:
        if not self._path or not self._path.exists():
            return []
        with self._lock, self._opened(self._path) as database:
            return database.execute(statement, values).fetchall()

    @contextmanager
    def _opened(self, path: Path) -> Iterator[sqlite3.Connection]:
        """Yield the file with its tables; it is closed afterwards, also if it is no SQLite file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=10)) as database:
            # The change fails while others use the file, whatever the timeout. It lasts.
            if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            for table, column in (_FOOTERS, _GAPS):
                columns = f"store TEXT, key TEXT, etag TEXT, {column} TEXT, UNIQUE (store, key)"
                database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            yield database


def footer_cache_path() -> Path | None:
    """Return the file of this user's cache; None where there is no place for one."""
    folder = cache_folder()
    return folder / "coverage.sqlite" if folder else None


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]

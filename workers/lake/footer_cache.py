"""Footers that this machine has read, by key and ETag, in a SQLite file."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footer import Footer
from klinefleet.workers.storage.objects import StoredObject

logger = logging.getLogger(__name__)

T = TypeVar("T")


#: Footers looked up or noted in one statement.
_BATCH = 500
#: What is remembered, each in a table of its own with a column for it: footers, and what partitions
#: lack that do not tell it in their footers.
_FOOTERS, _LOOKS = ("footers", "footer"), ("looks", "look")
#: Footers remembered at most: about a kilobyte each; the oldest go first.
MOST_KEPT = 500_000


class FooterCache:
    """Footers, and the gaps that were found by looking, by store, key and ETag; a path of None
    keeps nothing.

    They are in an SQLite file that several processes may share. It is only ever a saving: where it
    cannot be read or written, footers are read from the store again.
    """

    def __init__(self, store_url: str, path: Path | None, *, most_kept: int = MOST_KEPT) -> None:
        self._store = store_url if "://" in store_url else str(Path(store_url).absolute())
        self._path = path
        self._most_kept = most_kept
        self._lock = threading.Lock()

    def recall(self, entries: list[StoredObject]) -> dict[str, Footer]:
        """Return the footers that are known of just these versions, by key."""
        return self._recall(_FOOTERS, entries, lambda told: Footer.of(json.loads(told)))

    def keep(self, read: Iterable[tuple[StoredObject, Footer]]) -> None:
        """Remember footers."""
        self._keep(_FOOTERS, ((entry, json.dumps(footer.metadata())) for entry, footer in read))

    def recall_gaps(self, entries: list[StoredObject]) -> dict[str, list[Span]]:
        """Return what was found to lack rows in just these versions, by key."""
        return self._recall(
            _LOOKS, entries, lambda told: [Span(*pair) for pair in json.loads(told)]
        )

    def keep_gaps(self, found: Iterable[tuple[StoredObject, list[Span]]]) -> None:
        """Remember what partitions lack that do not tell it in their footers."""
        told = ((entry, [[gap.start_ms, gap.end_ms] for gap in gaps]) for entry, gaps in found)
        self._keep(_LOOKS, ((entry, json.dumps(gaps)) for entry, gaps in told))

    def _recall(
        self, table: tuple[str, str], entries: list[StoredObject], of: Callable[[str], T]
    ) -> dict[str, T]:
        etags = {entry.key: entry.etag for entry in entries}
        found: dict[str, T] = {}
        try:
            for batch in _batches(list(etags)):
                marks = ",".join("?" * len(batch))
                asked = (
                    f"SELECT key, etag, {table[1]} FROM {table[0]} WHERE store = ? AND key IN "
                    f"({marks})"
                )
                for key, etag, told in self._run(asked, [self._store, *batch]):
                    if etags[key] == etag:
                        found[key] = of(told)
        except (sqlite3.Error, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            logger.warning(
                "coverage: what was remembered in %s cannot be read: %s", self._path, error
            )
        return found

    def _keep(self, table: tuple[str, str], told: Iterable[tuple[StoredObject, str]]) -> None:
        rows = [(self._store, entry.key, entry.etag, text) for entry, text in told]
        if not rows or not self._path:
            return
        name = table[0]
        try:
            with self._lock, self._opened(self._path) as memory, memory:
                memory.executemany(f"REPLACE INTO {name} VALUES (?, ?, ?, ?)", rows)
                memory.execute(
                    f"DELETE FROM {name} WHERE rowid <= (SELECT max(rowid) FROM {name}) - ?",
                    [self._most_kept],
                )
        except (sqlite3.Error, OSError, ValueError) as error:
            logger.warning("coverage: nothing can be remembered in %s: %s", self._path, error)

    def _run(self, statement: str, values: list[str]) -> list[tuple[str, str, str]]:
        if not self._path or not self._path.exists():
            return []
        with self._lock, self._opened(self._path) as memory:
            return memory.execute(statement, values).fetchall()

    @contextmanager
    def _opened(self, path: Path) -> Iterator[sqlite3.Connection]:
        """Yield the file with its tables; it is closed after, also where it turns out to be no such
        file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=10)) as memory:
            # Changing to it fails while others are at work, whatever the timeout; once changed, it
            # stays.
            if memory.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                memory.execute("PRAGMA journal_mode = WAL")
            memory.execute("PRAGMA synchronous = OFF")
            for table, told in (_FOOTERS, _LOOKS):
                columns = f"store TEXT, key TEXT, etag TEXT, {told} TEXT, UNIQUE (store, key)"
                memory.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            yield memory


def footer_cache_path() -> Path:
    """Return where this machine remembers footers: below XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "klinefleet" / "coverage.sqlite"


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]

"""Lakes of format 1, copied from the test data, and what is true of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.lake.partition_codec import read_back
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store

_DATA = Path(__file__).with_name("data")
_FOLDER = _DATA / "lake_format_1"
DAMAGED = _DATA / "lake_format_1_damaged"


@dataclass(frozen=True)
class Truth:
    """What the lake has to hold of one series."""

    series: Series
    rows: pl.DataFrame
    covered: list[Span]


def copy_lake(to: Path, *symbols: str, source: Path = _FOLDER) -> Path:
    """Copy the lake of format 1, or some symbols of it, without its truth; return its folder."""
    shutil.copytree(source, to, ignore=shutil.ignore_patterns("truth", "truth.json"))
    for folder in list(to.rglob("symbol=*")):
        if symbols and folder.name.removeprefix("symbol=") not in symbols:
            shutil.rmtree(folder)
    return to


def truths(*symbols: str) -> Iterator[Truth]:
    """Yield what is true of each series of the lake, or of those of some symbols."""
    told = json.loads((_FOLDER / "truth" / "truth.json").read_text())
    for one in told["series"]:
        if not symbols or one["symbol"] in symbols:
            yield _truth(one)


def _truth(one: dict[str, Any]) -> Truth:
    kind = kind_named(one["kind"])
    rows = pl.read_parquet(_FOLDER / "truth" / f"{kind}.parquet").filter(
        market=one["market"], symbol=one["symbol"]
    )
    if kind.has_interval:
        rows = rows.filter(interval=one["interval"])
    interval = Interval(one["interval"]) if kind.has_interval else Interval.EVENTS
    series = Series(Market(one["market"]), kind, interval, one["symbol"])
    covered = spans.union(Span(*span) for span in one["covered"])
    return Truth(series, rows.select(kind.names), covered)


def held(files: ObjectStore, series: Series) -> tuple[pl.DataFrame, list[Span]]:
    """Return the rows of a series as its partitions hold them, and the time that they cover."""
    coverage = Coverage(files, FooterCache("", None))
    folder = keys.series_folder("lake", series)
    frames = [
        read_back(series.kind, files.read(entry.key) or b"", entry.key)[0]
        for entry in coverage.partitions(folder)
    ]
    rows = pl.concat(frames).sort(series.kind.time_column)
    return rows, coverage.covered(series)


def assert_true(store: Path | str, *symbols: str) -> None:
    """Assert that the lake holds exactly what is true of its series, each row once."""
    files = open_store(str(store))
    for truth in truths(*symbols):
        rows, covered = held(files, truth.series)
        assert rows.equals(truth.rows), truth.series
        assert covered == truth.covered, truth.series


def files_of(store: Path) -> dict[str, bytes]:
    """Return every file of a store by its key."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


class Killed(BaseException):
    """Ends a process at once: nothing catches it."""


class DyingStore(FolderStore):
    """A folder whose process is killed at one of its changes, before or after it."""

    def __init__(self, inner: FolderStore, *, changes: int, is_after: bool) -> None:
        super().__init__(inner._fs, inner._root)
        self._left = changes
        self._is_after = is_after

    def _die_around(self, change: Any, *args: Any) -> None:
        self._left -= 1
        if self._left < 0 and not self._is_after:
            raise Killed
        change(*args)
        if self._left < 0:
            raise Killed

    def _put(self, path: str, body: bytes) -> None:
        self._die_around(super()._put, path, body)

    def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
        self._die_around(super()._publish, path, body, replaces)

    def _remove(self, path: str) -> None:
        self._die_around(super()._remove, path)

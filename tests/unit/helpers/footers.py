"""Footers for tests: of a lake whose reads are counted, and made up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import fsspec
import pytest

from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import StoredObject
from tests.answers import covering
from tests.unit.helpers.klines import MINUTES, frame, opens

KEY = keys.partition(Partition(MINUTES, "2024-01"))


class RecordingStore(FolderStore):
    """A folder that tells which ends of objects were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(
            fsspec.filesystem("file", auto_mkdir=True),
            str(root),
            sleep=lambda s: pytest.fail(f"slept {s}"),
        )
        self.reads: list[str] = []
        self.before_read: Callable[[str], None] = lambda key: None

    def read_tail(self, key: str, size: int) -> bytes | None:
        self.before_read(key)
        self.reads.append(key)
        return super().read_tail(key, size)


def footer_cache_at(path: Path | None, store: str = "s3://bucket") -> FooterCache:
    return FooterCache(store, path)


def hold(files: FolderStore, span: Span, series: Series = MINUTES, month: str = "2024-01") -> None:
    Partitions(files).merge(Partition(series, month), frame(opens(span)), covering(span))


def recall_all(path: Path, entries: Iterable[StoredObject]) -> dict[str, Footer]:
    return footer_cache_at(path).get(list(entries))

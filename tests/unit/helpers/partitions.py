"""One partition of a lake in a folder, and a store that another writer changes meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.footer import parse_footer
from klinefleet.workers.lake.partition_codec import decode, encode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from tests.answers import covering
from tests.unit.helpers.klines import MINUTES, frame, opens, times_of
from tests.unit.helpers.memory_store import MemoryStore

MONTH = "2024-01"
KEY = keys.partition(Partition(MINUTES, MONTH))


def held(files: ObjectStore) -> list[int]:
    body = files.read(KEY)
    return times_of(decode(body)) if body else []


def put(lake: Partitions, span: Span, *, price: str = "42000.10") -> int:
    return lake.merge(
        Partition(MINUTES, MONTH), frame(opens(span), price=price), covering(span)
    ).gained


class VersionedStore(MemoryStore):
    """Objects in memory with versions.

    `meddle` is called before each publish, as another process would act.
    """

    def __init__(self, meddle: Callable[[VersionedStore], None] = lambda _: None) -> None:
        super().__init__()
        self.versions: dict[str, int] = {}
        self.meddle = meddle
        self.published = 0

    def etag(self, key: str) -> str | None:
        return str(self.versions[key]) if key in self.held else None

    def read_tail(self, key: str, size: int) -> bytes | None:
        return self.held[key][-size:] if key in self.held else None

    def list(self, folder: str) -> list[StoredObject]:
        return [
            StoredObject(k, "", len(b))
            for k, b in sorted(self.held.items())
            if k.startswith(folder + "/")
        ]

    def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
        meddle, self.meddle = self.meddle, lambda _: None
        meddle(self)
        if self.etag(key) != replaces:
            raise VersionConflict(key)
        self.held[key] = body
        self.versions[key] = self.versions.get(key, 0) + 1
        self.published += 1


def spoilt(body: bytes) -> bytes:
    """The bytes with other values than those that were proved."""
    return encode(decode(body).with_columns(open=pl.lit(7.0)), parse_footer(body))

"""The raw zone: bytes as they were received, one object a window or file, until compaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import zstandard

from klinefleet.workers.domain.errors import RawDamaged
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.storage.objects import ObjectStore

#: Klines shrink five to ten times at the cheapest level. A raw object is kept for minutes only.
_ZSTD_LEVEL = 1


@dataclass(frozen=True, slots=True)
class RawEntry:
    """One raw object: its key, the span that it answers for, and its source."""

    key: str
    partition: Partition
    span: Span
    asked_ms: int
    """When it was asked for, by the exchange's clock, ms UTC."""
    content: str
    source: Source = Source.REST
    etag: str = ""
    """The ETag of an archive file."""


class RawZone:
    """Stores and finds raw objects.

    The REST pages of a window are one compressed object, a page a line; archive files are kept as
    they are.
    """

    def __init__(self, files: ObjectStore) -> None:
        self._files = files

    def store(
        self, partition: Partition, span: Span, pages: Sequence[bytes], *, asked_ms: int
    ) -> RawEntry:
        """Store the pages that answer for `span`; the same pages give the same object.

        No page has a newline.
        """
        body = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(b"\n".join(pages))
        return self._put(partition, span, asked_ms, body)

    def store_file(
        self,
        partition: Partition,
        span: Span,
        body: bytes,
        source: Source,
        etag: str,
        *,
        asked_ms: int,
    ) -> RawEntry:
        """Store an archive file that answers for `span`."""
        return self._put(partition, span, asked_ms, body, source, etag)

    def load(self, entry: RawEntry) -> list[bytes] | None:
        """Return the pages, or the one file; None if another compaction has deleted it.

        RawDamaged if the bytes do not match the name.
        """
        body = self._files.read(entry.key)
        if body is None:
            return None
        if _content(body) != entry.content:
            raise RawDamaged(
                f"{entry.key}: its SHA-256 is {_content(body)}; it will be fetched again",
                key=entry.key,
            )
        if entry.source.is_archive:
            return [body]
        return zstandard.ZstdDecompressor().decompressobj().decompress(body).split(b"\n")

    def entries(self, of: Series | Partition) -> list[RawEntry]:
        """Return the raw objects of a series or of one of its partitions, oldest span first."""
        series = of if isinstance(of, Series) else of.series
        folder = keys.series_folder("raw", of) if isinstance(of, Series) else keys.raw_folder(of)
        listed = [
            (entry.key, keys.parse_raw(series, entry.key)) for entry in self._files.list(folder)
        ]
        found = [RawEntry(key, *parsed) for key, parsed in listed if parsed]
        return sorted(found, key=lambda entry: (entry.span, entry.key))

    def entries_of_group(
        self, market: Market, kind: Kind, interval: Interval
    ) -> dict[str, list[RawEntry]]:
        """Return the raw objects of a group by symbol, with one listing."""
        found: dict[str, list[RawEntry]] = {}
        for listed in self._files.list(keys.group_folder("raw", market, kind, interval)):
            symbol = keys.symbol_of(listed.key)
            parsed = (
                keys.parse_raw(Series(market, kind, interval, symbol), listed.key)
                if symbol
                else None
            )
            if symbol and parsed:
                found.setdefault(symbol, []).append(RawEntry(listed.key, *parsed))
        return found

    def _put(
        self,
        partition: Partition,
        span: Span,
        asked_ms: int,
        body: bytes,
        source: Source = Source.REST,
        etag: str = "",
    ) -> RawEntry:
        content = _content(body)
        key = keys.raw(partition, span, asked_ms, content, source, etag)
        self._files.put(key, body)
        return RawEntry(key, partition, span, asked_ms, content, source, etag)

    def keep(self, entries: Iterable[RawEntry]) -> None:
        """Move raw objects out of the zone, where nothing reads them any more."""
        for entry in entries:
            body = self._files.read(entry.key)
            if body is not None:
                self._files.put(keys.kept(entry.key), body)
            self._files.delete([entry.key])

    def drop(self, entries: Iterable[RawEntry]) -> None:
        """Delete raw objects."""
        self._files.delete(entry.key for entry in entries)


def _content(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]

"""One daily file of the archive, and its place in a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from klinefleet.workers.binance.archive import DEFAULT_LIMITS, Archive, ArchiveLimits
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.binance.calls.session import pooled_session
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from tests.unit.helpers.bucket import LIST, Bucket
from tests.unit.helpers.in_process_fleet import zipped

MINUTES = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
DAY = ArchiveFile(MINUTES, Source.DAILY, "2024-01-05")
ZIP = zipped(DAY, b"1704412800000,1,2,3,4\n" * 200)


@contextmanager
def archive_of(
    bucket: Bucket, *, timeout_s: float = 10, limits: ArchiveLimits = DEFAULT_LIMITS
) -> Iterator[Archive]:
    """Run with a client of the archive that the bucket is."""
    with pooled_session(4) as session:
        urls = bucket.url, bucket.url + LIST
        yield Archive(*urls, session=session, timeout_s=timeout_s, limits=limits)


def checksum(body: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(body).hexdigest()}  {name}".encode()


def publish(bucket: Bucket, file: ArchiveFile, body: bytes = ZIP) -> None:
    bucket.objects[file.key] = body
    bucket.objects[f"{file.key}.CHECKSUM"] = checksum(body, f"{file.stem}.zip")


def gets(bucket: Bucket) -> list[str]:
    return [path.removeprefix("GET /") for path in bucket.asked if path.startswith("GET")]

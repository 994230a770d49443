"""One daily file of the archive, and its place in a bucket."""

from __future__ import annotations

import hashlib

from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from tests.unit.helpers.bucket import Bucket
from tests.unit.helpers.crew import zipped

MINUTES = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
DAY = ArchiveFile(MINUTES, Source.DAILY, "2024-01-05")
ZIP = zipped(DAY, b"1704412800000,1,2,3,4\n" * 200)


def checksum(body: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(body).hexdigest()}  {name}".encode()


def publish(bucket: Bucket, file: ArchiveFile, body: bytes = ZIP) -> None:
    bucket.objects[file.key] = body
    bucket.objects[f"{file.key}.CHECKSUM"] = checksum(body, f"{file.stem}.zip")


def gets(bucket: Bucket) -> list[str]:
    return [path.removeprefix("GET /") for path in bucket.asked if path.startswith("GET")]

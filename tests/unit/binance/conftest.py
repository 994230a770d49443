"""The archive's client, over a bucket on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from klinefleet.workers.binance.archive import Archive
from tests.unit.helpers.archive_bucket import archive_of
from tests.unit.helpers.bucket import Bucket


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    made.close()


@pytest.fixture
def archive(bucket: Bucket) -> Iterator[Archive]:
    with archive_of(bucket) as made:
        yield made

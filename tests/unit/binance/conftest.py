"""The archive's client, over a bucket on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from klinefleet.workers.binance.archive import Archive
from tests.unit.helpers.bucket import LIST, Bucket


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    made.close()


@pytest.fixture
def archive(bucket: Bucket) -> Iterator[Archive]:
    with requests.Session() as session:
        session.trust_env = False
        yield Archive(bucket.url, bucket.url + LIST, session=session, timeout_s=10)

"""The lake on a real S3 server, where the environment names one: AWS_ENDPOINT_URL_FOR_TESTS, with
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and KLINES_TEST_BUCKET.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import pytest

from tests.harness import Fleet, Wanted

REAL_S3 = os.environ.get("AWS_ENDPOINT_URL_FOR_TESTS")
BUCKET = os.environ.get("KLINES_TEST_BUCKET", "lake")

pytestmark = pytest.mark.skipif(not REAL_S3, reason="AWS_ENDPOINT_URL_FOR_TESTS names no real S3 server")


@pytest.mark.parametrize(("market", "symbol"), [("spot", "BTCUSDT"), ("um", "ETHUSDT"), ("cm", "BTCUSD_PERP")])
def test_a_real_s3_server_holds_what_two_runs_at_once_have_fetched(
    fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch, market: str, symbol: str
) -> None:
    assert REAL_S3
    monkeypatch.setenv("AWS_ENDPOINT_URL", REAL_S3)
    monkeypatch.setenv("AWS_REGION", os.environ.get("AWS_REGION", "us-east-1"))
    wanted = Wanted(market, (symbol,), "2024-01-01", "2024-03-01")
    fleet = fleet_of("--latency-ms", "20", store_url=f"s3://{BUCKET}/test-{uuid.uuid4().hex[:8]}")
    fleet.start_worker()
    commands = [fleet.start("download", *wanted.arguments) for _ in range(2)]
    assert [command.result(120).returncode for command in commands] == [0, 0]
    assert max(fleet.exchange.pages().values()) == 1
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)

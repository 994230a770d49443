"""The same lake in a real S3 server, if AWS_ENDPOINT_URL_FOR_TESTS names one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import pytest

from tests.expected import Wanted, lake_frame
from tests.harness import Fleet

ENDPOINT = os.environ.get("AWS_ENDPOINT_URL_FOR_TESTS")
BUCKET = os.environ.get("KLINES_TEST_BUCKET", "lake")

pytestmark = pytest.mark.skipif(
    not ENDPOINT,
    reason="no S3 server given: set AWS_ENDPOINT_URL_FOR_TESTS (and AWS_ACCESS_KEY_ID, …, "
    "KLINES_TEST_BUCKET)",
)

MONTHS = [
    Wanted("spot", ("BTCUSDT",), "2024-01-01", "2024-02-01"),
    Wanted("um", ("ETHUSDT",), "2024-01-01", "2024-02-01"),
    Wanted("cm", ("BTCUSD_PERP",), "2024-01-01", "2024-02-01"),
]


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("AWS_ENDPOINT_URL", ENDPOINT or "")
    return fleet_of("--latency-ms", "20", store_url=f"s3://{BUCKET}/test-{uuid.uuid4()}")


def test_a_month_of_each_market_in_a_real_bucket_equals_the_truth(fleet: Fleet) -> None:
    fleet.start_worker()
    for wanted in MONTHS:
        fleet.download(*wanted.arguments)
        wanted.assert_held(fleet)
        wanted.assert_nothing_is_missing(fleet)


def test_the_same_request_twice_at_once_on_a_real_bucket_fetches_no_page_twice(
    fleet: Fleet,
) -> None:
    fleet.start_worker()
    fleet.start_worker()
    wanted = Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-01", "2024-04-01")
    commands = [fleet.start("download", "--json", *wanted.arguments) for _ in range(2)]
    for done in [command.result() for command in commands]:
        assert done.returncode == 0, done.stderr + fleet.log()
    assert [page for page, times in fleet.exchange.pages().items() if times > 1] == []
    wanted.assert_held(fleet)
    wanted.assert_nothing_is_missing(fleet)


def test_fleets_that_share_only_a_real_bucket_merge_their_halves_of_a_month(fleet: Fleet) -> None:
    """Only the server's conditional PUT stands between them."""
    halves = [
        ("2024-01-01", "2024-01-12"),
        ("2024-01-12", "2024-01-20"),
        ("2024-01-20", "2024-02-01"),
    ]
    commands = [
        fleet.start(
            "download", "--json", "--local", *Wanted("um", ("BTCUSDT",), start, end).arguments
        )
        for start, end in halves
    ]
    for done in [command.result() for command in commands]:
        assert done.returncode == 0, done.stderr
    whole = Wanted("um", ("BTCUSDT",), "2024-01-01", "2024-02-01")
    whole.assert_held(fleet)
    assert lake_frame(fleet.store_url, "um", "BTCUSDT", "1m").height == 44_640

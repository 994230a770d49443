"""The lake in S3: a small server with faults on demand always, a real one where the environment names it.

The real one: AWS_ENDPOINT_URL_FOR_TESTS with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and KLINES_TEST_BUCKET.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.acceptance.test_nothing_lost import PAGES, REQUEST, SPAN_MS, SYMBOLS, Download, check_budget
from tests.harness import Fleet, Process, truth_frame
from workers.lake import keys
from workers.lake.files import open_files
from workers.lake.parquet import Partitions, decode
from workers.model import Interval, Kind, Market, Series, Span

FleetOf = Callable[..., Fleet]

#: Read before any test's surroundings are cleaned.
REAL_S3 = os.environ.get("AWS_ENDPOINT_URL_FOR_TESTS")
BUCKET = os.environ.get("KLINES_TEST_BUCKET", "lake")


@pytest.fixture
def bucket_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a small S3 server; the environment points to it."""
    with Process() as server:
        server.spawn(
            [sys.executable, "-m", "tests.object_store"], dict(os.environ), tmp_path / "s3.log", subprocess.PIPE
        )
        assert server.process
        assert server.process.stdout
        url = server.process.stdout.readline().decode().strip()
        for name, value in {
            "ENDPOINT_URL": url,
            "ACCESS_KEY_ID": "k",
            "SECRET_ACCESS_KEY": "s",
            "REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield url


def ask_faults(url: str, method: str, query: str = "") -> dict[str, int]:
    with urllib.request.urlopen(urllib.request.Request(f"{url}/faults{query}", method=method), timeout=5) as answer:
        told: dict[str, int] = json.loads(answer.read())
        return told


def check_lake(store_url: str) -> None:
    """The bucket holds exactly the exchange's truth, and says that it covers it."""
    files = open_files(store_url)
    for symbol in SYMBOLS:
        series = Series(Market.SPOT, Kind.KLINES, Interval.M1, symbol)
        entries = files.list(keys.series_folder("lake", series))
        held = pl.concat([decode(files.read(entry.key) or b"") for entry in entries])
        assert held.equals(truth_frame("spot", symbol, "1m", *SPAN_MS)), symbol
        assert Partitions(files).covered(series) == [Span(*SPAN_MS)]
    assert files.list("raw") == []


def test_a_store_that_fails_a_tenth_of_its_writes_changes_no_row(fleet_of: FleetOf, bucket_url: str) -> None:
    ask_faults(bucket_url, "PUT", "?before=0.07&after=0.05")
    fleet = fleet_of("--latency-ms", "20", store_url="s3://lake/some/prefix")
    fleet.start_worker()
    download = Download(fleet)
    assert download.end() == 0, download.said
    told = ask_faults(bucket_url, "PUT", "?before=0")
    assert told["failed"] > 5
    assert told["unconditional"] == 0
    check_lake(fleet.store_url)
    check_budget(fleet)
    fleet.exchange.ask("DELETE", "calls")
    fleet.download(*REQUEST)
    assert fleet.exchange.calls() == []


@pytest.mark.skipif(not REAL_S3, reason="AWS_ENDPOINT_URL_FOR_TESTS names no real S3 server")
def test_a_real_s3_server_holds_what_two_runs_at_once_have_fetched(
    fleet_of: FleetOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REAL_S3
    monkeypatch.setenv("AWS_ENDPOINT_URL", REAL_S3)
    monkeypatch.setenv("AWS_REGION", os.environ.get("AWS_REGION", "us-east-1"))
    fleet = fleet_of("--latency-ms", "20", store_url=f"s3://{BUCKET}/test-{uuid.uuid4().hex[:8]}")
    fleet.start_worker()
    downloads = [Download(fleet), Download(fleet)]
    assert [download.end() for download in downloads] == [0, 0], downloads[0].said
    assert len([call for call in fleet.exchange.calls() if call["limit"] != "1"]) == PAGES
    check_lake(fleet.store_url)

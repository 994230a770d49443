"""Metrics count what happened: once, with few labels, from threads and processes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from redis import Redis

from klinefleet.workers.binance.archive import Archive
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.domain.errors import ChecksumMismatch, FleetError, OverWeight, StoreFault
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Source
from klinefleet.workers.limits.budget import Wait
from klinefleet.workers.limits.weight_waiter import WeightWaiter
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support import metrics
from klinefleet.workers.support.clock import ManualClock
from klinefleet.workers.support.metrics import Counter, Gauge
from tests.lua_budget import LuaBudget
from tests.unit.helpers.bucket import LIST, Bucket
from tests.unit.helpers.in_process_fleet import in_process_fleet, zipped
from tests.unit.helpers.klines import JANUARY, MINUTES, body, minutes, opens, row

#: All that may tell two series of a metric apart: what there are few of.
FEW = {"market", "pool", "egress", "status", "reason", "source", "queue", "outcome"}
#: Labels of what a worker is, with one value each.
OWN = {"id", "url"}
PAGE = Page(minutes(0, 2), 2, 1)

Counted = Callable[..., float | None]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Have this process count, and tell what it has counted."""
    monkeypatch.setattr(metrics, "_meters", {})
    registry = CollectorRegistry()
    metrics.count_in_registry(registry)
    return lambda name, **labels: registry.get_sample_value(name, labels)


class Session:
    """Answers every call alike; status 0 is a connection that breaks."""

    def __init__(self, status: int, answer: bytes) -> None:
        self.status_code, self.headers, self._pieces, self.raw = (
            status,
            dict[str, str](),
            [answer],
            self,
        )

    def request(self, *_: object, **__: object) -> Self:
        if not self.status_code:
            raise requests.ConnectionError("gone")
        return self

    def read1(self, *_: object, **__: object) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass


class Full(LuaBudget):
    """A budget without room."""

    def take(self, weight: int, reservation: int | None = None) -> Wait:
        return Wait(1_000, None)


class Hurried:
    """A stop that nobody waits for; it comes after so many waits."""

    def __init__(self, waits: int) -> None:
        self._left = waits
        self.waited_s = 0.0

    def wait(self, seconds: float) -> bool:
        self.waited_s += seconds
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("status", [200, 400, 403, 418, 429, 503, 0])
def test_a_call_is_counted_once_by_what_came_and_timed_if_anything_did(
    counted: Counted, status: int
) -> None:
    budget = LuaBudget(ManualClock(10_000))
    client = RestClient(
        Market.USD_M,
        "http://x",
        session=Session(status, body(opens(minutes(0, 2)))),  # type: ignore[arg-type]
        budget=lambda _: budget,
        weight_waiter=WeightWaiter(),
    )
    try:
        client.rows(MINUTES, PAGE)
    except FleetError:
        assert status != 200
    result = str(status) if status else "unreachable"
    assert counted("klines_requests_total", market="um", status=result) == 1
    assert counted("klines_request_seconds_count", market="um") == (1 if status else 0)
    assert counted("klines_requests_total", market="spot", status="200") == 0


def test_seconds_waited_for_weight_are_counted_while_it_is_waited_for(counted: Counted) -> None:
    stop = Hurried(3)
    with pytest.raises(OverWeight):
        WeightWaiter(stop, clock=lambda: stop.waited_s).acquire(Full(ManualClock()), 2)  # type: ignore[arg-type]
    waited_s = counted("klines_weight_wait_seconds_total", pool="futures", egress="lua")
    assert waited_s
    assert 3.0 <= waited_s <= 3.6


def test_bytes_to_and_from_the_store_are_counted(counted: Counted, tmp_path: Path) -> None:
    files = open_store(str(tmp_path))
    files.put("raw/a", b"12345")
    files.publish("lake/b", b"123", replaces=None)
    assert counted("klines_store_written_bytes_total") == 8
    files.read("raw/a")
    files.read_tail("raw/a", 2)
    files.read("raw/nothing")
    assert counted("klines_store_read_bytes_total") == 7


def test_a_store_that_fails_counts_its_retries_by_the_error_and_no_bytes(
    counted: Counted, tmp_path: Path
) -> None:
    class Broken(FolderStore):
        def _put(self, path: str, body: bytes) -> None:
            raise ConnectionResetError(path)

    with pytest.raises(StoreFault):
        Broken(None, str(tmp_path), sleep=lambda _: None).put("a", b"1")
    assert counted("klines_retries_total", source="store", reason="ConnectionResetError") == 5
    assert counted("klines_store_written_bytes_total") == 0


@pytest.mark.parametrize(("is_whole", "outcome"), [(True, "good"), (False, "ChecksumMismatch")])
def test_a_file_of_the_archive_is_counted_by_its_outcome(
    counted: Counted, is_whole: bool, outcome: str
) -> None:
    file, bucket = ArchiveFile(MINUTES, Source.DAILY, "2024-01-05"), Bucket()
    try:
        checksum = hashlib.sha256(b"zip" if is_whole else b"other").hexdigest()
        bucket.objects = {
            file.key: b"zip",
            f"{file.key}.CHECKSUM": f"{checksum}  {file.stem}.zip".encode(),
        }
        with requests.Session() as session:
            archive = Archive(bucket.url, bucket.url + LIST, session=session)
            if is_whole:
                archive.download(file)
            else:
                with pytest.raises(ChecksumMismatch):
                    archive.download(file)
    finally:
        bucket.close()
    assert counted("klines_archive_files_total", source="daily", outcome=outcome) == 1
    assert counted("klines_archive_requests_total", status="200") == 2


def test_windows_partitions_and_rows_of_files_are_counted_as_they_are_done(
    counted: Counted, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from klinefleet.tasks.requests.request import Request
    from klinefleet.workers.domain.series import Window

    one = in_process_fleet(redis, tmp_path, {"BTCUSDT": 0}).patch(monkeypatch)
    run = one.begin(
        Request(Market.USD_M, KLINES, MINUTES.interval, ("BTCUSDT",), 0, JANUARY.span.end_ms)
    )
    csv = "\n".join(row(at).strip("[]").replace('"', "") for at in opens(JANUARY.span)).encode()
    file = one.archive.publish(MINUTES, "2024-01")
    one.archive.files[file] = zipped(file, csv)
    window = Window(JANUARY, JANUARY.span, Source.MONTHLY)
    one.runs.partitions.claim(run, JANUARY)
    one.runs.partitions.open(run, JANUARY, [window])
    one.send_fetch(run, [window], 0)
    one.work()
    assert counted("klines_windows_total", queue="archive", outcome="done") == 1
    assert counted("klines_windows_total", queue="archive", outcome="failed") == 0
    assert counted("klines_partitions_total", outcome="done") == 1
    assert counted("klines_rows_fetched_total", market="um", source="monthly") == 44_640
    assert counted("klines_rows_compacted_total", market="um") == 44_640


def test_no_label_holds_what_there_are_many_of() -> None:
    assert {label for metric in metrics.ALL for label in metric.labels} <= FEW | OWN


def test_every_metric_is_named_for_the_product_and_its_unit_and_explained_in_a_sentence() -> None:
    for metric in metrics.ALL:
        assert metric.name.startswith("klines_"), metric.name
        assert metric.help.endswith("."), metric.name
        assert "  " not in metric.help
        counts = isinstance(metric, Counter) and not isinstance(metric, metrics.Histogram)
        assert metric.name.endswith("_total") is counts, metric.name
        if isinstance(metric, Counter) and metric.preset:
            assert len(metric.preset) == len(metric.labels), metric.name


def test_names_are_unique() -> None:
    assert len({metric.name for metric in metrics.ALL}) == len(metrics.ALL)
    assert {type(metric) for metric in metrics.ALL} == {Counter, metrics.Histogram, Gauge}


def test_a_process_without_a_folder_counts_nothing_and_imports_nothing(
    tmp_path: Path,
) -> None:
    python(
        tmp_path,
        "import sys, klinefleet.tasks.fleet.supervisor\n"
        "import klinefleet.workers.storage.open, klinefleet.workers.binance.archive\n"
        "from klinefleet.workers.support import metrics\n"
        "metrics.RETRIES.add(source='rest', reason='BadAnswer')\n"
        "assert 'prometheus_client' not in sys.modules\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_counts_of_threads_and_of_lanes_add_up_and_a_lane_that_is_started_again_goes_on(
    tmp_path: Path,
) -> None:
    count = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from klinefleet.workers.support import metrics\n"
        "metrics.count_in_folder(Path.cwd(), sys.argv[1])\n"
        "def work():\n"
        "    for _ in range(500): metrics.WINDOWS.add(queue='archive', outcome='done')\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "metrics.REQUEST_SECONDS.observe(0.25, market='um')\n"
        "import os; os._exit(9)\n"
    )
    for lane in ("rest.spot", "archive", "archive", "archive"):
        python(tmp_path, count, lane, code=9)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))  # type: ignore[no-untyped-call]
    value_of: Any = registry.get_sample_value
    assert value_of("klines_windows_total", {"queue": "archive", "outcome": "done"}) == 16_000
    assert value_of("klines_request_seconds_bucket", {"market": "um", "le": "0.3"}) == 4
    assert len(list(tmp_path.iterdir())) == 4


def python(folder: Path, code_: str, *arguments: str, code: int = 0) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code_, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr

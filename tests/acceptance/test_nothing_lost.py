"""Kill, stop, ban, break and repeat: the lake ends equal to the exchange's truth, and nothing is paid for twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import KLINES, Fleet, Process, lake_frame, truth_frame, until
from workers.model import utc_ms

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
QUARTER = ("--interval", "1m", "--start", "2024-01-01", "--end", "2024-04-01")
SPAN_MS = (utc_ms(2024), utc_ms(2024, 4))
REQUEST = ("--market", "spot", "--symbols", ",".join(SYMBOLS), *QUARTER)
PAGES = 3 * (45 + 42 + 45)

FleetOf = Callable[..., Fleet]


class Download(Process):
    """A `klines download` under way."""

    def __init__(self, fleet: Fleet, *arguments: str) -> None:
        self._out = fleet.folder / "download.log"
        self.spawn([str(KLINES), "download", *(arguments or REQUEST)], fleet.env, self._out)

    def end(self, within_s: float = 120.0) -> int:
        assert self.process
        return self.process.wait(within_s)

    @property
    def said(self) -> str:
        return self._out.read_text(errors="replace")


def check_lake(fleet: Fleet, symbols: tuple[str, ...] = SYMBOLS, market: str = "spot") -> None:
    """The lake holds exactly what the exchange has, in order and once, and nothing raw is left."""
    for symbol in symbols:
        held = lake_frame(Path(fleet.store_url), market, symbol, "1m")
        assert held.equals(truth_frame(market, symbol, "1m", *SPAN_MS)), symbol
    assert not list(Path(fleet.store_url, "raw").rglob("*.zst"))


def check_budget(fleet: Fleet) -> None:
    """No minute was overrun."""
    for minute in fleet.exchange.books()["minutes"]:
        assert minute["weight"] <= minute["limit"], minute
        assert minute["refused_429"] == 0, minute


def check_nothing_left_to_fetch(fleet: Fleet) -> None:
    fleet.exchange.ask("DELETE", "calls")
    fleet.download(*REQUEST)
    assert fleet.exchange.calls() == []


def served(fleet: Fleet) -> int:
    """Klines that have gone out so far."""
    klines: int = fleet.exchange.books()["klines"]
    return klines


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def kill_tree(process: Process) -> None:
    assert process.process
    for pid in tree(process.process.pid):
        os.kill(pid, signal.SIGKILL)
    process.process.wait(5)
    process.process = None


def test_workers_killed_every_few_seconds_lose_and_double_nothing(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "150", KLINES_SLOTS="6")
    worker = fleet.start_worker()
    download = Download(fleet)
    for _ in range(3):
        before = served(fleet)
        until("work goes on", lambda before=before: served(fleet) > before + 40_000, 60)
        kill_tree(worker)
        worker = fleet.start_worker()
    assert download.end() == 0, download.said
    check_lake(fleet)
    check_budget(fleet)
    check_nothing_left_to_fetch(fleet)


def test_a_lane_that_is_killed_is_started_again_and_its_work_comes_back(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    worker = fleet.start_worker()
    download = Download(fleet)
    until("work goes on", lambda: served(fleet) > 40_000)
    assert worker.process
    for lane in tree(worker.process.pid)[1:]:
        os.kill(lane, signal.SIGKILL)
    assert download.end() == 0, download.said
    check_lake(fleet)
    check_budget(fleet)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_redis_stopped_and_started_again_twice_loses_nothing(fleet_of: FleetOf, how: signal.Signals) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    fleet.start_worker()
    download = Download(fleet)
    for _ in range(2):
        before = served(fleet)
        until("work goes on", lambda before=before: served(fleet) > before + 40_000, 60)
        fleet.redis.stop(how)
        time.sleep(2)
        fleet.redis.start()
    assert download.end() == 0, download.said
    check_lake(fleet)
    check_budget(fleet)
    check_nothing_left_to_fetch(fleet)


FAULTS = ("400", "403", "408", "451", "500", "502", "503", "reset", "truncated", "not_json", "html_200", "half")


def test_a_tenth_of_calls_failing_in_every_way_changes_no_row(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "10", KLINES_TIMEOUT_S="1")
    fleet.start_worker()
    rates = dict.fromkeys(FAULTS, 0.01) | {"hang": 0.005, "429": 0.005, "418": 0.005}
    fleet.exchange.faults(rates, seed=2, retry_after_s=1, ban_s=2, hang_s=3)
    download = Download(fleet)
    code = download.end()
    told = fleet.exchange.books()["faults"]
    fleet.exchange.faults({})
    assert set(told) >= set(FAULTS), told
    if code:
        assert "FAILED" in download.said
        fleet.exchange.ask("DELETE", "calls")
        fleet.download(*REQUEST)
        assert len(fleet.exchange.calls()) < PAGES // 4
    check_lake(fleet)
    check_nothing_left_to_fetch(fleet)
    for minute in fleet.exchange.books()["minutes"]:
        assert minute["weight"] <= minute["limit"], minute


def test_a_ban_in_the_middle_is_waited_out_by_everybody(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    fleet.start_worker()
    download = Download(fleet)
    until("work goes on", lambda: served(fleet) > 40_000)
    fleet.exchange.ask("POST", "ban", {"address": "127.0.0.1", "pool": "spot", "seconds": 4})
    assert download.end() == 0, download.said
    refused = sum(minute["refused_418"] for minute in fleet.exchange.books()["minutes"])
    # Those in flight when it came, and no more.
    assert 0 < refused <= 6
    check_lake(fleet)
    check_budget(fleet)


def test_the_whole_run_started_twice_at_once_fetches_no_page_twice(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "50")
    fleet.start_worker()
    downloads = [Download(fleet), Download(fleet)]
    assert [download.end() for download in downloads] == [0, 0], downloads[0].said
    pages = Counter((call["symbol"], call["start"]) for call in fleet.exchange.calls() if call["limit"] != "1")
    assert len(pages) == PAGES
    assert max(pages.values()) == 1
    check_lake(fleet)


def test_ctrl_c_keeps_what_was_fetched_and_the_same_command_goes_on(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    fleet.start_worker()
    download = Download(fleet)
    until("work goes on", lambda: served(fleet) > 150_000)
    assert download.process
    download.process.send_signal(signal.SIGINT)
    assert download.end(10) == 1
    assert "the same command goes on" in download.said
    time.sleep(2)
    fleet.download(*REQUEST)
    pages = Counter((call["symbol"], call["start"]) for call in fleet.exchange.calls() if call["limit"] != "1")
    # Twice at most: the windows that were under way when the run was cancelled.
    assert sum(pages.values()) - len(pages) <= 6 * 9
    check_lake(fleet)


def test_a_cancelled_run_drops_what_is_not_begun(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    fleet.start_worker()
    run = fleet.klines("download", "--detach", *REQUEST).stdout.strip()
    until("work goes on", lambda: served(fleet) > 40_000)
    assert fleet.klines("cancel", run).returncode == 0
    time.sleep(2)
    before = served(fleet)
    time.sleep(1)
    assert served(fleet) == before < PAGES * 1000
    fleet.download(*REQUEST)
    check_lake(fleet)


def test_a_local_run_interrupted_leaves_no_process_and_goes_on_after(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    download = Download(fleet, "--local", *REQUEST)
    until("work goes on", lambda: served(fleet) > 40_000)
    assert download.process
    children = tree(download.process.pid)[1:]
    assert len(children) >= 4
    download.process.send_signal(signal.SIGINT)
    assert download.end(30) == 1
    until("its children are gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 10)
    fleet.download("--local", *REQUEST)
    check_lake(fleet)


def test_a_worker_told_to_stop_hands_its_work_to_the_next(fleet_of: FleetOf) -> None:
    fleet = fleet_of("--latency-ms", "100", KLINES_SLOTS="6")
    worker = fleet.start_worker()
    download = Download(fleet)
    until("work goes on", lambda: served(fleet) > 40_000)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 15
    fleet.start_worker()
    assert download.end() == 0, download.said
    check_lake(fleet)
    check_budget(fleet)

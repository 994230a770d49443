"""Flower in a real browser, over a fleet that has worked and failed, behind a password."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from klinefleet.tasks.runs.store import Runs
from tests.harness import KLINES, Fleet
from tests.processes import WITHIN_S, Process, free_port, until
from tests.servers import Exchange, RedisServer

USER, PASSWORD = "operator", "open-sesame"
BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
QUIETLY = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HEADLESS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--window-size=1500,1000",
    *QUIETLY,
)


@dataclass
class Watched:
    """A fleet that Flower watched: one symbol was fetched, and another failed."""

    fleet: Fleet
    port: int
    flower: Process
    good: dict[str, Any]
    bad: dict[str, Any]

    def start_flower(self) -> None:
        state = str(self.fleet.folder / "flower.state")
        command = [str(KLINES), "flower", "--port", str(self.port), "--state", state]
        self.flower.spawn(command, self.fleet.env, self.fleet.folder / "flower.log")
        until("Flower answers", lambda: self.status("/healthcheck") == 200)

    def status(self, path: str, method: str = "GET", login: str = f"{USER}:{PASSWORD}") -> int:
        """Return the status of an answer, 0 where none comes."""
        try:
            return int(self._open(path, method, login).status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    @property
    def windows_done(self) -> int:
        """What our own books say of the run that was complete."""
        client = self.fleet.redis.client()
        progress = Runs(client).progress(self.good["run"])
        client.close()
        assert progress
        return progress.counts["windows_done"]

    def has_seen_all(self) -> bool:
        """Return whether Flower shows every window, and no task as running."""
        fetches = self.windows_done + len(self.bad["failed"])
        under_way = {"RECEIVED", "STARTED"} & {task["state"] for task in self.tasks()}
        return (
            not under_way
            and self.states("klines.fetch").total() == fetches
            and bool(self.states("klines.compact"))
        )

    def tasks(self) -> list[dict[str, Any]]:
        """Return what Flower knows of all tasks."""
        return list(json.loads(self.read("/api/tasks")).values())

    def read(self, path: str) -> str:
        return str(self._open(path).read().decode())

    def states(self, name: str) -> Counter[str]:
        return Counter(task["state"] for task in self.tasks() if task["name"] == name)

    def page(self, path: str, folder: Path) -> str:
        """Return a page's text as the browser shows it; a picture of it is left in `folder`."""
        if not BROWSER:
            pytest.skip("there is no Chromium on this machine")
        url = f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}{path}"
        picture = folder / f"{path.strip('/')}.png"
        options = [*HEADLESS, f"--user-data-dir={folder / 'browser'}", "--virtual-time-budget=5000"]
        done = subprocess.run(
            [BROWSER, *options, f"--screenshot={picture}", "--dump-dom", url],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        assert picture.stat().st_size > 10_000
        # A name may stand in two spans side by side.
        text = re.sub(r"<[^>]+>", " ", re.sub(r"</span><span[^>]*>", "", done.stdout))
        return " ".join(unescape(text).split())

    def _open(self, path: str, method: str = "GET", login: str = f"{USER}:{PASSWORD}") -> Any:
        headers = (
            {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
        )
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers=headers, method=method
        )
        return urllib.request.urlopen(asked, timeout=WITHIN_S)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("watched")
    settings = {
        "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}",
        "XDG_RUNTIME_DIR": str(home),
        "KLINES_EGRESS": "home",
    }
    exchange, redis = Exchange(home, "--latency-ms", "5"), RedisServer(home / "redis")
    fleet = Fleet(home, exchange, redis, str(home / "store"), settings)
    watched = Watched(fleet, free_port(), Process(), {}, {})
    try:
        fleet.start_worker()
        watched.start_flower()
        # Few enough tasks that all are on the first page, also where a planner takes more turns.
        watched.good = fleet.download(*_request("BTCUSDT", "2024-01-20"))
        exchange.faults({"500": 1.0}, seed=3)
        watched.bad = json.loads(
            fleet.klines("download", "--json", *_request("ETHUSDT", "2024-01-02")).stdout
        )
        until("Flower has seen all tasks end", watched.has_seen_all)
        yield watched
    finally:
        watched.flower.stop()
        fleet.close()


def test_the_tasks_page_says_market_symbol_interval_window_and_worker(
    watched: Watched, tmp_path: Path
) -> None:
    text = watched.page("/tasks", tmp_path)
    assert re.search(
        r"klines\.fetch um BTCUSDT 1m 2024-01-01 00:00\.\.01-0\d \d\d:\d\dZ, rest, run \S+ SUCCESS",
        text,
    )
    assert re.search(
        r"klines\.fetch um ETHUSDT 1m 2024-01-01\.\.01-02, rest, run \S+ FAILURE", text
    )
    assert re.search(r"klines\.compact um BTCUSDT 1m 2024-01, run \S+ SUCCESS", text)
    assert "rest.futures-home@" in text


def test_the_workers_page_names_the_lanes_and_counts_right(
    watched: Watched, tmp_path: Path
) -> None:
    text = watched.page("/workers", tmp_path)
    for lane in (
        "plan",
        "rest.spot-home",
        "rest.futures-home",
        "rest.funding-home",
        "archive",
        "compact",
    ):
        assert f" {lane}@" in text
    done, failed = watched.windows_done, len(watched.bad["failed"])
    assert re.search(rf"rest\.futures-home@\S+ Online 0 {done + failed} {failed} {done} ", text)


def test_what_failed_for_good_shows_as_failed_and_is_neither_retried_nor_lost_nor_stored(
    watched: Watched,
) -> None:
    assert watched.bad["state"] == "incomplete"
    assert len(watched.bad["failed"]) == 1
    assert watched.states("klines.fetch") == {"SUCCESS": watched.windows_done, "FAILURE": 1}
    failed = [task for task in watched.tasks() if task["state"] == "FAILURE"]
    assert failed[0]["exception"].startswith("TaskFailed('ServerFault: ")
    assert "ServerFault: " in watched.read(f"/task/{failed[0]['uuid']}")
    client = watched.fleet.redis.client()
    left = [key.decode() for key in client.keys("*")]
    client.close()
    assert "unacked" not in left
    assert not [key for key in left if key.startswith("celery-task-meta") or key == "rest.futures"]


def test_a_window_that_failed_is_one_line_of_the_log_without_a_traceback(watched: Watched) -> None:
    [line] = [line for line in watched.fleet.log_lines() if line["level"] == "error"]
    assert "exception" not in line
    assert line["lane"].startswith("rest.futures-home@")
    assert (line["run"], line["series"]) == (watched.bad["run"], "um/klines/1m/ETHUSDT")
    assert (line["task"], line["window"]) == ("klines.fetch", "2024-01-01..2024-01-02")


@pytest.mark.parametrize(
    "path", ["/", "/tasks", "/workers?json=1", "/api/workers", "/metrics", "/healthcheck"]
)
def test_nothing_is_told_without_the_password(watched: Watched, path: str) -> None:
    assert watched.status(path, login="") == 401
    assert watched.status(path, login=f"{USER}:wrong") == 401
    assert watched.status(path) == 200


def test_nobody_stops_workers_or_sends_tasks_through_flower(watched: Watched) -> None:
    assert watched.status("/api/task/async-apply/klines.plan", "POST") == 403
    worker = next(task["worker"] for task in watched.tasks() if task.get("worker"))
    assert watched.status(f"/api/worker/shutdown/{worker}", "POST") == 403


def test_flower_knows_its_tasks_again_after_a_restart(watched: Watched) -> None:
    before = {task["uuid"] for task in watched.tasks()}
    watched.flower.stop()
    watched.start_flower()
    assert before
    assert {task["uuid"] for task in watched.tasks()} == before


def _request(symbol: str, end: str) -> tuple[str, ...]:
    series = ("--market", "um", "--symbols", symbol, "--interval", "1m")
    return (*series, "--start", "2024-01-01", "--end", end, "--source", "rest")

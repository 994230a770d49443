"""A worker's metrics over HTTP: they survive Redis and lanes, and end with the worker."""

from __future__ import annotations

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pytest

from tests.harness import Fleet
from tests.processes import WITHIN_S, alive, free_port, until

JANUARY = ("--interval", "1m", "--start", "2024-01-01", "--end", "2024-02-01")


@pytest.fixture
def port(fleet_of: Callable[..., Fleet]) -> tuple[Fleet, int]:
    """A fleet of one worker with metrics, and where they are."""
    port = free_port()
    fleet = fleet_of("--latency-ms", "5", KLINES_METRICS_PORT=str(port))
    fleet.start_worker()
    return fleet, port


def scrape(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WITHIN_S) as answer:
        told: str = answer.read().decode()
        return told


def took_s(port: int) -> float:
    """Return how long an answer took."""
    asked = time.monotonic()
    scrape(port)
    return time.monotonic() - asked


def value(body: str, sample: str) -> float:
    return next(
        float(line.rpartition(" ")[2])
        for line in body.splitlines()
        if line.startswith(f"{sample} ")
    )


def test_a_redis_that_hangs_is_told_within_two_seconds_and_counts_still_come(
    port: tuple[Fleet, int],
) -> None:
    fleet, at = port
    os.kill(fleet.redis.pid, SIGSTOP)
    # Of several, so that a machine that stands still for a moment is not taken for a worker that
    # does.
    assert min(took_s(at) for _ in range(3)) < 2
    body = scrape(at)
    assert value(body, "klines_redis_up") == 0
    assert value(body, 'klines_rows_fetched_total{market="um",source="rest"}') == 0
    assert "klines_workers" not in body
    os.kill(fleet.redis.pid, SIGCONT)
    until("Redis is back", lambda: value(scrape(at), "klines_redis_up") == 1)


def test_nothing_but_metrics_is_told_there(port: tuple[Fleet, int]) -> None:
    _, at = port
    for path in ("/", "/favicon.ico", "/metrics/", "/-/reload", "/../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            scrape(at, path)
    assert "klines_redis_up 1.0" in scrape(at)


def test_a_lane_that_is_killed_takes_no_count_with_it_and_leaves_no_more_files(
    port: tuple[Fleet, int],
) -> None:
    fleet, at = port
    fleet.download("--market", "um", "--symbols", "BTCUSDT", *JANUARY, "--source", "rest")
    worker, sample = fleet.workers[0], 'klines_rows_fetched_total{market="um",source="rest"}'
    files, folder = folder_of(fleet)
    assert value(scrape(at), sample) == 44_640
    for _ in range(2):
        lane = fleet.lanes_of(worker)["rest.futures"]
        os.kill(lane, SIGKILL)
        until(
            "another lane serves",
            lambda lane=lane: fleet.lanes_of(worker).get("rest.futures", lane) != lane,
        )
    fleet.download("--market", "um", "--symbols", "ETHUSDT", *JANUARY, "--source", "rest")
    assert value(scrape(at), sample) == 2 * 44_640
    assert folder_of(fleet) == (files, folder)


def folder_of(fleet: Fleet) -> tuple[int, Path]:
    (folder,) = fleet.folder.glob("klinefleet-*/metrics-*")
    return len(list(folder.iterdir())), folder


def test_a_worker_that_ends_gives_its_port_back_and_leaves_no_folder(
    port: tuple[Fleet, int],
) -> None:
    fleet, at = port
    fleet.workers.pop().stop()
    assert not list(fleet.folder.glob("klinefleet-*/metrics-*"))
    socket.create_server(("127.0.0.1", at)).close()


def test_a_worker_that_is_killed_leaves_neither_port_nor_folder_for_long(
    port: tuple[Fleet, int],
) -> None:
    fleet, at = port
    worker = fleet.workers.pop()
    os.kill(worker.pid, SIGKILL)
    worker.stop(SIGKILL)
    until("its folder is gone", lambda: not list(fleet.folder.glob("klinefleet-*/metrics-*")))
    until("its port is free", lambda: is_free(at))


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_stops_the_worker_with_one_line(port: tuple[Fleet, int]) -> None:
    fleet, at = port
    done = fleet.klines("worker")
    assert done.returncode == 2
    told = (
        f"klines: KLINES_METRICS_PORT was {at}; cannot listen there on 127.0.0.1 (Address "
        "already in use)"
    )
    assert done.stderr.splitlines() == [f"{told}, so no worker was started"]
    assert alive(fleet.workers[0].pid)


def test_a_private_worker_serves_no_metrics(port: tuple[Fleet, int]) -> None:
    """Its port is the fleet's, and is taken on this machine; the command must not fail for that."""
    fleet, _ = port
    fleet.download(
        "--local", "--market", "um", "--symbols", "BTCUSDT", *JANUARY, "--source", "rest"
    )
    assert len(list(fleet.folder.glob("klinefleet-*/metrics-*"))) == 1

"""The archive lane: against a straight-line script, and on all cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.benchmarks.measure import (
    ROUNDS,
    YEAR,
    YEAR_KLINES,
    fleet_at,
    median,
    show,
    timed,
)
from tests.harness import Fleet
from tests.processes import tree

STRAIGHT_LINE = Path(__file__).with_name("straight_line_files.py")
FOUR = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")


def archive_year() -> None:
    """One spot symbol-year of monthly files: a running fleet against a straight-line script."""
    with fleet_at("--latency-ms", "0") as fleet:
        urls = warm(fleet, FOUR[:1])
        files_year(fleet, FOUR[:1])
        rounds, peaks = [], []
        for _ in range(ROUNDS):
            line_s = straight_line(fleet, urls)
            with peak_mb(fleet) as peak:
                fleet_s, told = files_year(fleet, FOUR[:1])
            rounds.append(
                (fleet_s / line_s, fleet_s, line_s, told["seconds"], told["seconds"] / line_s)
            )
            peaks.append(peak)
        show(
            "symbol-year by archive",
            ratio=median(rounds, 0),
            fleet_s=median(rounds, 1),
            straight_line_s=median(rounds, 2),
            run_alone_s=median(rounds, 3),
            run_alone_ratio=median(rounds, 4),
            largest_process_mb=max(peak["largest"] for peak in peaks),
            all_processes_mb=max(peak["all"] for peak in peaks),
        )


def archive_cores() -> None:
    """Four symbol-years by archive with one slot and with four: what the second core brings."""
    rounds: list[tuple[float, ...]] = []
    with (
        fleet_at("--latency-ms", "0", KLINES_SLOTS="1") as one,
        fleet_at("--latency-ms", "0", KLINES_SLOTS="4") as four,
    ):
        for fleet in (one, four):
            warm(fleet, FOUR)
            files_year(fleet, FOUR[:1])
        for _ in range(ROUNDS):
            alone = files_year(one, FOUR)[1]["klines_per_second"]
            together = files_year(four, FOUR)[1]["klines_per_second"]
            rounds.append((together / alone, together, alone))
    show(
        "4 symbol-years by archive",
        cores=os.cpu_count(),
        ratio=median(rounds, 0),
        rows_per_second_4_slots=median(rounds, 1),
        rows_per_second_1_slot=median(rounds, 2),
    )


def warm(fleet: Fleet, symbols: tuple[str, ...]) -> list[str]:
    """Have the stand-in make the files, so that it is not measured; return their addresses."""
    folder = "data/spot/monthly/klines/{0}/1m/{0}-1m-2024-{1:02}.zip"
    urls = [
        f"{fleet.exchange.url}/{folder.format(symbol, month)}"
        for symbol in symbols
        for month in range(1, 13)
    ]
    for url in urls:
        requests.get(url, timeout=60).raise_for_status()
    return urls


def straight_line(fleet: Fleet, urls: list[str]) -> float:
    """Return the seconds the straight-line script takes for the files, its start included."""
    command = [sys.executable, str(STRAIGHT_LINE), str(fleet.folder / "straight"), *urls]
    return timed(lambda: subprocess.run(command, check=True))[0]


def files_year(fleet: Fleet, symbols: tuple[str, ...]) -> tuple[float, dict[str, Any]]:
    """Return the seconds `klines download` takes for symbol-years, and its summary.

    The lake is empty before.
    """
    fleet.empty_lake()
    seconds, told = timed(
        lambda: fleet.download("--market", "spot", "--symbols", ",".join(symbols), *YEAR)
    )
    assert told["klines_from_files"] == told["rows_gained"] == len(symbols) * YEAR_KLINES, told
    return seconds, told


@contextmanager
def peak_mb(fleet: Fleet) -> Iterator[dict[str, float]]:
    """Measure the memory of the worker's processes while the block runs.

    That of the largest one, and of all without counting shared pages twice.
    """
    peak, done = {"largest": 0.0, "all": 0.0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            held = [_held_mb(pid) for pid in tree(fleet.workers[0].pid)]
            peak["largest"] = max(peak["largest"], *(rss for rss, _ in held))
            peak["all"] = max(peak["all"], sum(pss for _, pss in held))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _held_mb(pid: int) -> tuple[float, float]:
    """Return a process's resident memory, and its part of it where pages are shared."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    held = {
        line.partition(":")[0]: int(line.split()[1]) / 1000 for line in lines if line.endswith("kB")
    }
    return held["Rss"], held["Pss"]

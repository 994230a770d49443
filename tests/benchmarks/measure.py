"""What the benchmarks share: fleets, clocks, what processes use, and how figures are printed."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from klinefleet.workers.domain.timestamps import utc_ms
from tests.harness import KLINES, Fleet
from tests.servers import Exchange, RedisServer

YEAR = ("--interval", "1m", "--start", "2024-01-01", "--end", "2025-01-01")
YEAR_MS = (utc_ms(2024), utc_ms(2025))
YEAR_KLINES = 527_040
RTT_MS = 280
ROUNDS = 5


class ColdFleet(Fleet):
    """A fleet whose commands start as a user's do: the start is part of what is measured."""

    def klines(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [KLINES, *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )


@contextmanager
def fleet_at(*exchange: str, workers: int = 1, **settings: str) -> Iterator[Fleet]:
    """Run a fleet with an empty store against an exchange of its own."""
    with tempfile.TemporaryDirectory(prefix="klines-bench-") as name:
        folder = Path(name)
        options = exchange or ("--latency-ms", str(RTT_MS))
        redis, store = RedisServer(folder / "redis"), str(folder / "s")
        fleet = ColdFleet(folder, Exchange(folder, *options), redis, store, settings)
        try:
            for _ in range(workers):
                fleet.start_worker()
            yield fleet
        finally:
            fleet.close()


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = run()
    return time.perf_counter() - began, value


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a process and its living descendants."""
    total, waiting = 0.0, [pid]
    while waiting:
        found = waiting.pop()
        stat = Path(f"/proc/{found}/stat").read_text().rpartition(")")[2].split()
        total += (int(stat[11]) + int(stat[12])) / 100
        waiting += [
            int(p)
            for t in Path(f"/proc/{found}/task").iterdir()
            for p in (t / "children").read_text().split()
        ]
    return total


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def median(rounds: list[tuple[float, ...]], index: int) -> float:
    return statistics.median(r[index] for r in rounds)


def show(name: str, **figures: Any) -> None:
    print(f"\n{name}")
    for figure, value in figures.items():
        print(
            f"  {figure:<32} {value:.3f}" if isinstance(value, float) else f"  {figure:<32} {value}"
        )
    sys.stdout.flush()

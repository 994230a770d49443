"""Many small archive files: a running fleet against a straight line of eight threads."""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from tests.benchmarks.archive import peak_mb
from tests.benchmarks.measure import cpu_s, fleet_at, show, timed
from tests.harness import Fleet
from tests.processes import ROOT, cpu_seconds

#: Twenty symbols × five years of 1h. Most were listed within them: 1,005 months have rows.
REQUEST = (
    *("--market", "um", "--symbols", ",".join(f"SIM{n:03}USDT" for n in range(1, 21))),
    *("--interval", "1h", "--start", "2020-01-01", "--end", "2025-01-01", "--source", "archive"),
)
ROUNDS = 3
#: A guard against a run that never ends.
WITHIN_S = 900.0
#: Lanes that the request has work for.
LANES = ("plan", "archive", "compact")

#: The figures of one round, by name.
Round = dict[str, float]


def small_files() -> None:
    """Twenty symbols × five years of 1h: a running fleet and the straight line in turns.

    The first download has the stand-in make the files, and the last one is watched for its memory,
    which slows it: neither is timed.
    """
    with fleet_at("--latency-ms", "0") as fleet:
        rows = download(fleet)["rows_gained"]
        urls = downloaded_urls(fleet)
        lines, fleets = list[Round](), list[Round]()
        for _ in range(ROUNDS):
            lines.append(straight_line(fleet, urls, rows))
            fleets.append(fleet_round(fleet, rows))
        fleet.empty_lake()
        with peak_mb(fleet) as peak:
            download(fleet)
        lake = Path(fleet.store_url, "lake")
        show(
            "20 symbols × 5 years of 1h by archive, and a straight line of eight threads in turns",
            files=len(urls),
            rows=rows,
            ratio=ratio(fleets, lines, "wall_s"),
            ratio_of_shortest=least(fleets, "wall_s") / least(lines, "wall_s"),
            run_alone_ratio=ratio(fleets, lines, "run_s", "wall_s"),
            cpu_ratio=ratio(fleets, lines, "cpu_s"),
            largest_process_mb=peak["largest"],
            all_processes_mb=peak["all"],
            parquet_files=sum(1 for _ in lake.rglob("*.parquet")),
        )
    show("… straight line: shortest, median, longest round", **spread(lines))
    show("… fleet: shortest, median, longest round", **spread(fleets))


def download(fleet: Fleet) -> dict[str, Any]:
    """Download everything into a lake that holds nothing, and return the summary."""
    told = fleet.download(*REQUEST, timeout_s=WITHIN_S)
    assert told["klines_from_files"] == told["rows_gained"] > 0, told
    return told


def downloaded_urls(fleet: Fleet) -> list[str]:
    """Return the addresses of the zips that the fleet has downloaded, each once."""
    paths = dict.fromkeys(call["path"] for call in fleet.exchange.files())
    return [f"{fleet.exchange.url}/{path}" for path in paths if path.endswith(".zip")]


def straight_line(fleet: Fleet, urls: list[str], rows: int) -> Round:
    """Return the figures of the straight-line process, its start included."""
    out = fleet.folder / "straight"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "tests.benchmarks.straight_line_threads", str(out)]
    _, figures = measured(
        fleet,
        lambda: subprocess.run(command, input="\n".join(urls), text=True, cwd=ROOT, check=True),
    )
    read = pl.scan_parquet(out / "*.parquet", include_file_paths="file")
    # A symbol's first day has files of the day and of the month.
    symbol = pl.col("file").str.extract(r"(SIM\d+USDT)")
    written = read.select(symbol, "open_time").unique().select(pl.len()).collect().item()
    assert (sum(1 for _ in out.iterdir()), written) == (len(urls), rows)
    return figures


def fleet_round(fleet: Fleet, rows: int) -> Round:
    """Return the figures of one download by the fleet, the command's start and end included.

    Processor seconds are the command's, the worker's and Redis's.
    """
    fleet.empty_lake()
    lanes, worker = fleet.lanes_of(fleet.workers[0]), fleet.workers[0].pid
    pids = {lane: lanes[lane] for lane in LANES} | {"redis": fleet.redis.pid}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    told, figures = measured(fleet, lambda: download(fleet), worker, fleet.redis.pid)
    assert told["rows_gained"] == rows
    parts = {f"cpu_s_{name}": cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    return figures | {"run_s": told["seconds"]} | parts


def measured(fleet: Fleet, run: Callable[[], Any], *pids: int) -> tuple[Any, Round]:
    """Return what `run` returns, and the figures of it.

    Processor seconds are those of the commands that it waits for, and of `pids` and their children.
    The stand-in's share is that of the one core that it can use.
    """
    before, exchange_before = spent_s(*pids), cpu_seconds(fleet.exchange.pid)
    wall_s, value = timed(run)
    used_s, exchange_s = spent_s(*pids) - before, cpu_seconds(fleet.exchange.pid) - exchange_before
    return value, {"wall_s": wall_s, "cpu_s": used_s, "exchange_share": exchange_s / wall_s}


def spent_s(*pids: int) -> float:
    """Return the processor seconds so far: of commands that ended, and of living processes."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(cpu_s, pids))


def ratio(fleets: list[Round], lines: list[Round], name: str, of_line: str = "") -> float:
    """Return the median of a figure of the fleet as a multiple of the straight line's."""
    pairs = zip(fleets, lines, strict=True)
    return statistics.median(one[name] / line[of_line or name] for one, line in pairs)


def least(rounds: list[Round], name: str) -> float:
    return min(figures[name] for figures in rounds)


def spread(rounds: list[Round]) -> dict[str, str]:
    """Return the shortest, the median and the longest of each figure."""
    return {
        name: " ".join(f"{value:.2f}" for value in sorted(figures[name] for figures in rounds))
        for name in rounds[0]
    }

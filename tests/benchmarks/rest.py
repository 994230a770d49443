"""The REST lane: against a straight line, against the budget, and what planning costs."""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import (
    ROUNDS,
    RTT_MS,
    YEAR,
    YEAR_KLINES,
    YEAR_MS,
    cpu_s,
    fleet_at,
    median,
    resident_mb,
    show,
    timed,
)
from tests.harness import KLINES, Fleet

STRAIGHT_LINE = Path(__file__).with_name("straight_line.py")
REST = ("--source", "rest")


def straight_line(fleet: Fleet, at_once: int = 50) -> float:
    """Return the seconds the straight-line script takes for the symbol-year, its start included."""
    out = fleet.folder / "straight.parquet"
    command = [
        sys.executable,
        str(STRAIGHT_LINE),
        fleet.exchange.url,
        "BTCUSDT",
        *map(str, YEAR_MS),
        str(at_once),
    ]
    return timed(lambda: subprocess.run([*command, str(out)], check=True))[0]


def fleet_year(fleet: Fleet) -> tuple[float, dict[str, Any]]:
    """Return the seconds `klines download` takes for the symbol-year, and its summary.

    The lake is empty before.
    """
    fleet.empty_lake()
    fleet.exchange.ask("DELETE", "books")
    seconds, told = timed(
        lambda: fleet.download("--market", "spot", "--symbols", "BTCUSDT", *YEAR, *REST)
    )
    assert told["klines"] == told["rows_gained"] == YEAR_KLINES
    return seconds, told


def symbol_year() -> None:
    """One spot symbol-year: a fleet with 50 and 150 slots against a straight-line script.

    Also the CPU time of both.
    """
    for slots in (50, 150):
        with fleet_at(KLINES_SLOTS=str(slots)) as fleet:
            fleet_year(fleet)
            rounds = []
            for _ in range(ROUNDS):
                children = resource.getrusage(resource.RUSAGE_CHILDREN)
                line_s = straight_line(fleet)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                line_cpu = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
                assert fleet.workers[0].process
                before_cpu = cpu_s(fleet.workers[0].process.pid)
                fleet_s, told = fleet_year(fleet)
                last = resource.getrusage(resource.RUSAGE_CHILDREN)
                command_cpu = last.ru_utime + last.ru_stime - after.ru_utime - after.ru_stime
                fleet_cpu = cpu_s(fleet.workers[0].process.pid) - before_cpu + command_cpu
                rounds.append(
                    (
                        fleet_s / line_s,
                        fleet_cpu / line_cpu,
                        fleet_s,
                        line_s,
                        told["seconds"],
                        fleet_cpu,
                    )
                )
            show(
                f"symbol-year, {slots} slots",
                ratio=median(rounds, 0),
                cpu_ratio=median(rounds, 1),
                fleet_s=median(rounds, 2),
                straight_line_s=median(rounds, 3),
                run_alone_s=median(rounds, 4),
                cpu_s_per_million=median(rounds, 5) / YEAR_KLINES * 1e6,
                round_trips_s=533 * RTT_MS / 1000 / slots,
            )


def faulty_answers() -> None:
    """A quarter of a year (131,040 klines); one answer in ten faulty, one in fifty 40 s late."""
    errors = dict.fromkeys(("408", "500", "502", "503", "reset", "truncated", "not_json"), 0.08 / 7)
    for seed, symbol in enumerate(("BTCUSDT", "ETHUSDT", "BNBUSDT")):
        with fleet_at("--latency-ms", "20") as fleet:
            fleet.exchange.faults(errors | {"hang": 0.02}, seed=seed, hang_s=40)
            quarter = ("--symbols", symbol, "--start", "2024-01-01", "--end", "2024-04-01")
            seconds, told = timed(
                lambda quarter=quarter: fleet.download("--market", "spot", *quarter, *REST)
            )
            assert told["klines"] == 91 * 1440
            struck = sum(fleet.exchange.books()["faults"].values())
            show(f"faulty_answers, {symbol}", seconds=seconds, run_s=told["seconds"], faults=struck)


def local_start() -> None:
    """From `klines download --local` to the first kline asked for."""
    with fleet_at(workers=0) as fleet:
        took = []
        for _ in range(ROUNDS):
            shutil.rmtree(fleet.store_url, ignore_errors=True)
            fleet.exchange.ask("DELETE", "calls")
            began_ms = time.time() * 1000
            fleet.download(
                "--local",
                "--market",
                "um",
                "--symbols",
                "BTCUSDT",
                *YEAR[:4],
                "--end",
                "2024-01-03",
            )
            took.append((fleet.exchange.calls()[0]["at_ms"] - began_ms) / 1000)
        show("--local", first_kline_asked_after_s=statistics.median(took))


def repeat() -> None:
    """A second, identical request of one symbol-year."""
    with fleet_at("--latency-ms", "5") as fleet:
        fleet_year(fleet)
        took, told = timed(
            lambda: fleet.download("--market", "spot", "--symbols", "BTCUSDT", *YEAR, *REST)
        )
        show("second identical request", seconds=took, requests=told["requests"])


def budget(workers: int = 1) -> None:
    """Four USD-M symbol-years: the share of each full minute's weight used, and the 429s."""
    with fleet_at(workers=workers) as fleet:
        symbols = "BTCUSDT,ETHUSDT,SOLUSDT,SIM001USDT"
        told = fleet.download("--market", "um", "--symbols", symbols, *YEAR, *REST, timeout_s=900)
        assert told["klines"] == told["rows_gained"] == 4 * YEAR_KLINES, told
        minutes = [m for m in fleet.exchange.books()["minutes"] if m["pool"] == "futures"]
        shares = [m["weight"] / m["limit"] for m in minutes]
        show(
            f"4 USD-M symbol-years, {workers} worker(s)",
            # The first minute began before the run, the last is cut.
            least_share_of_a_full_minute=min(shares[1:-1]),
            shares=" ".join(f"{share:.4f}" for share in shares),
            refused_429=sum(m["refused_429"] for m in minutes),
            klines_per_weight=told["klines_per_weight"],
            seconds=told["seconds"],
        )


def planning() -> None:
    """Planning 300 symbols × 3 years of 1m: the first window, memory of Redis and planner."""
    with fleet_at("--latency-ms", "50", "--symbols", "400") as fleet:
        symbols = fleet.folder / "symbols.txt"
        symbols.write_text("\n".join(f"SIM{i:03d}USDT" for i in range(1, 301)))
        fleet.download("--market", "spot", "--symbols", "BTCUSDT", *YEAR[:4], "--end", "2024-01-02")
        fleet.exchange.ask("DELETE", "calls")
        client = fleet.redis.client()
        planner = next(
            int(n.split(b"|")[-1])
            for n in client.zrange("klines:workers", 0, -1)
            if n.startswith(b"plan|")
        )
        began_ms = time.time() * 1000
        series = ("--market", "spot", "--symbols-file", symbols, "--interval", "1m")
        years = ("--start", "2022-01-01", "--end", "2025-01-01")
        run = subprocess.run(
            [KLINES, "download", "--detach", *series, *years, *REST],
            env=fleet.env,
            cwd=fleet.folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        peak, rss = 0, []
        for _ in range(90):
            time.sleep(1)
            peak = max(peak, int(client.info("memory")["used_memory"]))
            rss.append(resident_mb(planner))
        calls = [c for c in fleet.exchange.calls() if c["limit"] != "1"]
        fleet.klines("cancel", run)
        client.close()
        show(
            "plan of 300 symbols × 3 years, watched for 90 s",
            first_window_asked_after_s=(calls[0]["at_ms"] - began_ms) / 1000,
            redis_peak_mb=peak / 1e6,
            planner_mb_at_5_45_90_s=f"{rss[5]:.0f} {rss[45]:.0f} {rss[-1]:.0f}",
            calls_made=len(calls),
        )

"""The archive lane: against a straight-line script, on all cores, and planning a full lake."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import requests

from klinefleet.tasks.planning.completion_check import CompletionCheck
from klinefleet.tasks.planning.dispatch import PartitionDispatcher
from klinefleet.tasks.planning.run_context import RunContext
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import schema_of
from klinefleet.workers.domain.series import Partition, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.lake.footers.proof import Proof
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings
from tests.benchmarks.measure import (
    ROUNDS,
    YEAR,
    YEAR_KLINES,
    ColdFleet,
    fleet_at,
    median,
    show,
    timed,
)
from tests.harness import Fleet
from tests.processes import ask, tree
from tests.servers import Exchange, ObjectStore, RedisServer

STRAIGHT_LINE = Path(__file__).with_name("straight_line_files.py")
SYMBOLS = [f"SIM{n:03}USDT" for n in range(1, 501)]
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


def planning_held() -> None:
    """Planning 500 symbols × 60 held months: the first time, and with cached footers."""
    for kind in ("folder", "S3"):
        with tempfile.TemporaryDirectory(prefix="klines-bench-") as name, ExitStack() as stack:
            folder, settings = Path(name), {"XDG_CACHE_HOME": f"{name}/cache"}
            store_url, store = f"{name}/s", None
            if kind == "S3":
                store = stack.enter_context(ObjectStore(folder))
                store_url, settings = "s3://bench", settings | store.env
            fleet = ColdFleet(
                folder,
                Exchange(folder, "--symbols", "600"),
                RedisServer(folder / "redis"),
                store_url,
                settings,
            )
            stack.callback(fleet.close)
            hold_everything(fleet, store)
            fleet.start_worker()
            for time in ("first", "second"):
                _plan_held(
                    fleet,
                    store,
                    f"500 symbols × 60 months held in {kind}, planned for the {time} time",
                )
            fleet.workers.pop().stop()
            _end_held(
                fleet, store, f"500 symbols × 60 months held in {kind}, looked at before a run ends"
            )


def _end_held(fleet: Fleet, store: ObjectStore | None, name: str) -> None:
    """The most that checking a run's end costs: all series touched, all footers cached."""
    with pytest.MonkeyPatch.context() as patched:
        for variable, value in fleet.settings.items():
            patched.setenv(variable, value)
        services = Services(Settings(redis_url=fleet.redis.url, store_url=fleet.store_url))
        asked = Request(
            Market.USD_M, KLINES, Interval.M1, tuple(SYMBOLS), utc_ms(2021), utc_ms(2026)
        )
        runs = Runs(services.redis)
        run = runs.create(asked)
        leads = runs.take_lead(run, 2**62)
        assert leads
        for series in asked.series():
            leads.partitions.claim(run, series.partition(asked.start_ms))
        if store:
            ask(f"{store.url}/-/requests", "DELETE")
        context = RunContext(services, run, asked, leads)
        seconds, is_settled = timed(
            lambda: CompletionCheck(context, PartitionDispatcher(context)).check()
        )
        assert is_settled
        runs.end(run, State.CANCELLED)
        asked_for = store.requests() if store else {}
        show(name, seconds=seconds, **asked_for, requests=sum(asked_for.values()))


def _plan_held(fleet: Fleet, store: ObjectStore | None, name: str) -> None:
    if store:
        ask(f"{store.url}/-/requests", "DELETE")
    symbols = ("--symbols-file", str(fleet.folder / "symbols.txt"))
    range_ = ("--interval", "1m", "--start", "2021-01-01", "--end", "2026-01-01")
    seconds, told = timed(
        lambda: fleet.download("--market", "um", *symbols, *range_, timeout_s=600)
    )
    assert (told["files"], told["requests"], told["partitions_held"]) == (0, 0, 500 * 60)
    assert fleet.exchange.calls() == fleet.exchange.files() == []
    asked = store.requests() if store else {}
    show(name, command_s=seconds, run_s=told["seconds"], **asked, requests=sum(asked.values()))


def hold_everything(fleet: Fleet, store: ObjectStore | None) -> None:
    """Fill the lake with what `everything` yields, and write the symbols into a file."""
    (fleet.folder / "symbols.txt").write_text("\n".join(SYMBOLS))
    with requests.Session() as session:
        for key, body in everything():
            if store:
                session.put(f"{store.url}/bench/{key}", data=body).raise_for_status()
            else:
                keep(Path(fleet.store_url, key), body)


def keep(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def everything() -> Iterator[tuple[str, bytes]]:
    """Yield the partitions of 500 symbols × 60 months, key and bytes.

    They cover their months and are proved to have all rows; one row each is in them, as neither
    planning nor coverage reads any.
    """
    row = (
        schema_of(KLINES)
        .to_frame()
        .clear(1)
        .with_columns(pl.lit(0).cast(pl.Datetime("ms", "UTC")).alias("open_time"))
    )
    span = Span(utc_ms(2021), utc_ms(2026))
    bodies = {month: encode(row, _whole(of_month)) for month, of_month in months_of(span)}
    for symbol in SYMBOLS:
        for month, body in bodies.items():
            yield (
                keys.partition(Partition(Series(Market.USD_M, KLINES, Interval.M1, symbol), month)),
                body,
            )


def _whole(month: Span) -> Footer:
    proof = Proof(Interval.M1.opens(month.start_ms, month.end_ms), "0" * 16, ())
    return Footer((Answer(month, Source.MONTHLY, utc_ms(2026), "e" * 32, "c" * 16),), proof)


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

"""Planning over a lake that holds 500 series × 60 months; `coverage` is measured over it too."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

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
from klinefleet.workers.lake.identity import FORMAT
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings
from tests.benchmarks.measure import ColdFleet, show, timed
from tests.harness import Fleet
from tests.processes import ask
from tests.servers import Exchange, ObjectStore, RedisServer

SYMBOLS = [f"SIM{n:03}USDT" for n in range(1, 501)]
HELD = Span(utc_ms(2021), utc_ms(2026))
#: Candles of 1m have a partition a month, those of 1h one a year.
INTERVALS = (Interval.M1, Interval.H1)


def planning_held() -> None:
    """Planning 500 series × 60 held months: the first time, and with cached footers."""
    for interval in INTERVALS:
        for kind in ("folder", "S3"):
            _planning_held(interval, kind)


def _planning_held(interval: Interval, kind: str) -> None:
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
        hold_everything(fleet, store, interval)
        fleet.start_worker()
        what = f"500 series of {interval} × 60 months held in {kind}"
        for time in ("first", "second"):
            _plan_held(fleet, store, interval, f"{what}, planned for the {time} time")
        fleet.workers.pop().stop()
        _end_held(fleet, store, interval, f"{what}, looked at before a run ends")


def _plan_held(fleet: Fleet, store: ObjectStore | None, interval: Interval, name: str) -> None:
    if store:
        ask(f"{store.url}/-/requests", "DELETE")
    symbols = ("--symbols-file", str(fleet.folder / "symbols.txt"))
    range_ = ("--interval", str(interval), "--start", "2021-01-01", "--end", "2026-01-01")
    seconds, told = timed(
        lambda: fleet.download("--market", "um", *symbols, *range_, timeout_s=600)
    )
    held = 500 * len(list(Series(Market.USD_M, KLINES, interval, SYMBOLS[0]).partitions(HELD)))
    assert (told["files"], told["requests"], told["partitions_held"]) == (0, 0, held)
    assert fleet.exchange.calls() == fleet.exchange.files() == []
    asked = store.requests() if store else {}
    show(name, command_s=seconds, run_s=told["seconds"], **asked, requests=sum(asked.values()))


def _end_held(fleet: Fleet, store: ObjectStore | None, interval: Interval, name: str) -> None:
    """The most that checking a run's end costs: all series touched, all footers cached."""
    with pytest.MonkeyPatch.context() as patched:
        for variable, value in fleet.settings.items():
            patched.setenv(variable, value)
        services = Services(Settings(redis_url=fleet.redis.url, store_url=fleet.store_url))
        asked = Request(Market.USD_M, KLINES, interval, tuple(SYMBOLS), HELD.start_ms, HELD.end_ms)
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


def hold_everything(fleet: Fleet, store: ObjectStore | None, interval: Interval) -> None:
    """Fill the lake with what `everything` yields, and write the symbols into a file."""
    (fleet.folder / "symbols.txt").write_text("\n".join(SYMBOLS))
    with requests.Session() as session:
        for key, body in everything(interval):
            if store:
                session.put(f"{store.url}/bench/{key}", data=body).raise_for_status()
            else:
                keep(Path(fleet.store_url, key), body)


def keep(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def everything(interval: Interval) -> Iterator[tuple[str, bytes]]:
    """Yield the store's identity and the partitions of 500 series × 60 months, key and bytes.

    They cover their time by a file a month and are proved to have all rows; one row each is in
    them, as neither planning nor coverage reads any.
    """
    yield keys.IDENTITY, json.dumps({"id": "be" * 8, "format": FORMAT}).encode()
    row = (
        schema_of(KLINES)
        .to_frame()
        .clear(1)
        .with_columns(pl.lit(0).cast(pl.Datetime("ms", "UTC")).alias("open_time"))
    )
    for symbol in SYMBOLS:
        for partition in Series(Market.USD_M, KLINES, interval, symbol).partitions(HELD):
            yield keys.partition(partition), encode(row, _whole(partition))


def _whole(partition: Partition) -> Footer:
    span = partition.span
    proof = Proof(partition.series.interval.opens(span.start_ms, span.end_ms), "0" * 16, ())
    answers = (
        Answer(month, Source.MONTHLY, HELD.end_ms, "e" * 32, "c" * 16)
        for _, month in months_of(span)
    )
    return Footer(tuple(answers), proof, partition)

"""Helpers of the planner's tests: its waits run a function, so that nothing sleeps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from tests.answers import confirming
from tests.unit.helpers.in_process_fleet import InProcessFleet, series_of
from tests.unit.helpers.klines import frame

BEGAN = utc_ms(2019)
MONTHS = [utc_ms(2024, month) for month in range(1, 13)]
LONG_S = 3600.0
Maker = Callable[..., InProcessFleet]


def request(
    *symbols: str, months: int = 2, market: Market = Market.USD_M, interval: Interval = Interval.M1
) -> Request:
    return Request(market, KLINES, interval, symbols or ("BTCUSDT",), MONTHS[0], MONTHS[months])


def lead(
    one: InProcessFleet, run: str, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]
) -> bool:
    """Lead a run to its end or until `work`, which is done whenever the planner waits, raises."""
    waits = itertools.count()

    def wait(runs: Runs, run: str, seconds: float) -> None:
        assert next(waits) < 5000, "the run does not come to its end"
        work()

    monkeypatch.setattr(Runs, "wait_for_change", wait)
    return one.planner(run).lead(LONG_S)


def lead_to_end(one: InProcessFleet, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lead(one, run, monkeypatch, one.work)


def state(one: InProcessFleet, run: str) -> State:
    told = one.runs.state(run)
    assert told
    return told


def counts(one: InProcessFleet, run: str) -> dict[str, int]:
    progress = one.runs.progress(run)
    assert progress
    return progress.counts


def covered(one: InProcessFleet, symbol: str = "BTCUSDT") -> list[Span]:
    return one.services.coverage.covered(series_of(symbol))


def hold(one: InProcessFleet, span: Span, symbol: str = "BTCUSDT") -> None:
    """Have the lake hold a span that lies within one partition, without candles."""
    partition = series_of(symbol).partition(span.start_ms)
    one.services.partitions.merge(partition, frame([]), confirming(span))


def always_check_lost_work(one: InProcessFleet) -> None:
    """Have lost work be looked for all the time."""
    one.limits = replace(one.limits, lost_work_interval_s=0.0)


class CrashError(Exception):
    """The planner's process ends."""

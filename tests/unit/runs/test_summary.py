"""The summary's text has a line for each cause; --json has every failure by its name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import COUNTERS, Progress, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.summary import NAMED, Summary
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS, utc_ms
from klinefleet.workers.limits.budget import PoolState
from tests.unit.helpers.klines import MINUTES

START_MS = utc_ms(2024)


def summary(*records: Record) -> Summary:
    request = Request(
        MINUTES.market, MINUTES.kind, MINUTES.interval, ("BTCUSDT",), START_MS, utc_ms(2025)
    )
    counts = dict(Counter[str](dict.fromkeys(COUNTERS, 0)))
    progress = Progress("run", State.INCOMPLETE, request, 0, 1000, 1000, counts, records)
    pool = PoolState(2400, 0, 0, 0, 0, None, None)
    return Summary(progress, pool, 1, 1, "/store")


def failure(hour: int, text: str) -> Record:
    span = Span(START_MS + hour * HOUR_MS, START_MS + (hour + 1) * HOUR_MS)
    return Record(Level.FAILED, text, MINUTES, span, "rest")


def failed_lines(told: Summary) -> list[str]:
    return [line for line in told.text().splitlines() if "FAILED" in line]


def test_three_hundred_failures_of_one_cause_are_one_line_and_all_of_them_in_json() -> None:
    told = summary(*(failure(hour, "Restricted: 451") for hour in range(300)))
    assert failed_lines(told) == [
        "  FAILED 300 windows of BTCUSDT, 2024-01-01..2024-01-13T12:00: Restricted: 451"
    ]
    assert "`klines status run --json` lists all failures" in told.text()
    assert len(told.facts()["failed"]) == 300


def test_so_many_causes_that_not_all_can_be_named_are_counted() -> None:
    told = summary(*(failure(hour, f"Refused: {hour}") for hour in range(NAMED + 5)))
    assert len(failed_lines(told)) == NAMED + 1
    assert failed_lines(told)[-1] == "  FAILED and 5 more"


def test_a_single_failure_needs_no_hint_where_the_others_are() -> None:
    told = summary(failure(0, "Restricted: 451"))
    assert len(failed_lines(told)) == 1
    assert "lists all failures" not in told.text()
    assert replace(told, store_url="/other").facts()["failed"] == told.facts()["failed"]

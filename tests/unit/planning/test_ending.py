"""A run ends with a report, also where the store refuses it, and leaves little in Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.coverage.failures import failures_of
from klinefleet.tasks.planning.ending import MAX_REPORT_TRIES, cancel_run, end_run
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.report_file import parse_csv, with_records
from klinefleet.tasks.runs.store import KEPT_RECORDS, KEPT_RUNS, KEPT_SYMBOLS, Runs
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.timestamps import HOUR_MS
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings
from tests.unit.helpers.planning import request

MANY = [f"S{number:04}USDT" for number in range(3_000)]


@pytest.fixture
def services(redis: Redis, tmp_path: Path) -> Services:
    services = Services(Settings(store_url=str(tmp_path / "store")))
    services.__dict__["redis"] = redis
    return services


@pytest.fixture
def runs(redis: Redis) -> Runs:
    return Runs(redis)


def failures(symbols: list[str], level: Level = Level.FAILED) -> list[Record]:
    return [
        Record(level, "Refused: no such symbol", Series(Market.USD_M, KLINES, Interval.M1, symbol))
        for symbol in symbols
    ]


def progress_of(services: Services, run: str) -> Progress:
    progress = Runs(services.redis).progress(run)
    assert progress
    return progress


def bytes_of(redis: Redis, run: str) -> int:
    keys = [key for key in redis.scan_iter() if run in key.decode()]
    return sum(redis.memory_usage(key, samples=0) for key in keys)  # type: ignore[misc]


@pytest.mark.parametrize("level", [Level.FAILED, Level.REPORT, Level.NOTE])
def test_a_run_of_thousands_of_symbols_leaves_a_few_kilobytes_and_is_told_whole(
    services: Services, runs: Runs, level: Level
) -> None:
    run = runs.create(request(*MANY))
    runs.record(run, *failures(MANY, level))
    before = progress_of(services, run)
    end_run(services, runs, run)
    left = progress_of(services, run)
    assert (left.records, left.moved, left.symbols) == ([], 3_000, 3_000)
    assert left.request.symbols == tuple(MANY[:KEPT_SYMBOLS])
    assert left.state is (State.INCOMPLETE if level is Level.FAILED else State.COMPLETE)
    whole = with_records(services.store, left)
    assert (whole.failed, whole.reported, whole.notes) == (
        before.failed,
        before.reported,
        before.notes,
    )
    _, asked = parse_csv(services.store.read(f"reports/{run}/report.csv") or b"")
    assert asked == before.request.to_json()


def test_what_an_ended_run_leaves_is_bounded_in_bytes(services: Services, runs: Runs) -> None:
    run = runs.create(request(*MANY))
    runs.record(run, *failures(MANY))
    assert bytes_of(services.redis, run) > 300_000
    end_run(services, runs, run)
    assert bytes_of(services.redis, run) < 8_000


def test_a_small_run_is_told_from_redis_alone(services: Services, runs: Runs) -> None:
    run = runs.create(request())
    runs.record(run, *failures(["BTCUSDT"]))
    end_run(services, runs, run)
    services.store.delete([f"reports/{run}/report.csv"])
    left = progress_of(services, run)
    assert (len(left.records), left.moved) == (1, 0)
    assert with_records(services.store, left) == left


def test_a_report_that_is_gone_is_said_and_the_rest_is_told(
    services: Services, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    run = runs.create(request(*MANY))
    runs.record(run, *failures(MANY))
    end_run(services, runs, run)
    services.store.delete([f"reports/{run}/report.csv"])
    assert with_records(services.store, progress_of(services, run)).state is State.INCOMPLETE
    assert f"reports/{run}/report.csv is gone" in caplog.text


def test_a_run_whose_report_is_refused_is_tried_again_and_ends_incomplete_with_the_reason(
    services: Services, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.create(request(*MANY))
    runs.record(run, *failures(MANY, Level.REPORT))

    def refuse(key: str, body: bytes) -> None:
        raise StoreFault(f"could not write {key}: No space left on device")

    monkeypatch.setattr(services.store, "put", refuse)
    for _ in range(MAX_REPORT_TRIES - 1):
        with pytest.raises(StoreFault):
            end_run(services, runs, run, may_try_again=True)
        assert progress_of(services, run).state is State.RUNNING
    end_run(services, runs, run, may_try_again=True)
    left = progress_of(services, run)
    assert (left.state, len(left.records), left.moved) == (State.INCOMPLETE, 3_001, 0)
    assert left.failed == {
        "report": "its report could not be stored: StoreFault: could not write "
        f"reports/{run}/report.csv: No space left on device"
    }
    assert not list(failures_of(run, left.records, left.request)), "no candle is missing for it"


def test_a_cancelled_run_leaves_as_little(services: Services, runs: Runs) -> None:
    run, small = runs.create(request(*MANY)), runs.create(request())
    runs.record(run, *failures(MANY))
    runs.record(small, *failures(["BTCUSDT"]))
    for one in (run, small):
        cancel_run(services, one)
    assert (progress_of(services, run).state, progress_of(services, run).moved) == (
        State.CANCELLED,
        3_000,
    )
    assert services.store.read(f"reports/{run}/report.csv")
    assert not services.store.read(f"reports/{small}/report.csv")


def test_a_record_that_comes_after_the_report_is_not_lost(services: Services, runs: Runs) -> None:
    run = runs.create(request(*MANY))
    runs.record(run, *failures(MANY[: KEPT_RECORDS + 1]))
    reported = len(progress_of(services, run).records)
    runs.record(run, *failures(MANY[-1:]))
    runs.end(run, State.CANCELLED, reported=reported)
    assert len(progress_of(services, run).records) == reported + 1


def test_the_oldest_of_many_ended_runs_are_forgotten_and_no_active_one(
    redis: Redis, runs: Runs
) -> None:
    active = runs.create(request())
    hour_ago_ms = now_ms(redis) - HOUR_MS
    redis.zadd("klines:runs", {active: hour_ago_ms - 1})
    for number in range(KEPT_RUNS):
        run = f"{number:x}-old"
        redis.hset(f"klines:run:{run}", mapping={"state": "complete"})
        redis.hset(f"klines:run:{run}:records", mapping={"a": "b"})
        redis.zadd("klines:runs", {run: hour_ago_ms + number})
    last = runs.create(request())
    runs.end(last, State.COMPLETE)
    kept = runs.recent(2 * KEPT_RUNS)
    assert len(kept) == KEPT_RUNS + 1, "the active run counts for none"
    assert {active, last} < set(kept)
    assert not redis.exists("klines:run:0-old", "klines:run:0-old:records")
    assert redis.exists(f"klines:run:{KEPT_RUNS - 1:x}-old")

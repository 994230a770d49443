"""Metrics read from Redis by a scrape: unknown ones are left out, and Redis may be away."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from redis import Redis

from klinefleet.tasks.fleet.metrics_collector import FleetCollector
from klinefleet.tasks.fleet.metrics_server import build_registry
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.partitions import Refetch
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.queues import QUEUES
from klinefleet.workers.domain.redis_keys import SHARED_EGRESS, WORKERS
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.budget import Grant
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.limits.shared_egress import MINUTES_IN_A_ROW
from tests.unit.helpers.klines import JANUARY, MINUTES, minutes

FEBRUARY = Partition(MINUTES, "2024-02")


@pytest.fixture
def runs(redis: Redis) -> Runs:
    return Runs(redis)


@pytest.fixture
def run(runs: Runs) -> str:
    asked = Span(JANUARY.span.start_ms, FEBRUARY.span.end_ms)
    return runs.create(
        Request(
            MINUTES.market,
            MINUTES.kind,
            MINUTES.interval,
            ("BTCUSDT",),
            asked.start_ms,
            asked.end_ms,
        )
    )


def metric(redis: Redis, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(FleetCollector(redis))
    return registry.get_sample_value(name, labels)


def serve(redis: Redis, *serves: str) -> None:
    lapses = now_ms(redis) + 60_000
    for number, name in enumerate(serves):
        redis.zadd(WORKERS, {f"{name}|host|{number}": lapses})


def windows(number: int, partition: Partition = JANUARY) -> list[Window]:
    return [Window(partition, minutes(n * 100, n * 100 + 100)) for n in range(number)]


def put_under_way(runs: Runs, run: str, partition: Partition, several: list[Window]) -> None:
    assert runs.partitions.claim(run, partition)
    runs.partitions.open(run, partition, several)


def test_every_queue_tells_who_serves_it_and_what_waits_and_none_is_a_number_too(
    redis: Redis,
) -> None:
    serve(redis, "plan", "rest.spot@home", "rest.spot@other", "compact")
    redis.rpush("rest.spot", "a", "b")
    assert [metric(redis, "klines_workers", queue=queue) for queue in QUEUES] == [1, 2, 0, 0, 0, 1]
    assert [metric(redis, "klines_queue_length", queue=queue) for queue in QUEUES] == [
        0,
        2,
        0,
        0,
        0,
        0,
    ]


def test_a_pool_is_told_for_each_address_that_somebody_works_from(redis: Redis) -> None:
    serve(redis, "rest.spot@home", "rest.futures@home", "rest.spot@other")
    for egress, limit in (("home", 6000), ("other", 1200), ("gone", 1)):
        RedisBudget(redis, "spot", egress).set_limit(limit)
    RedisBudget(redis, "spot", "other").close_until(after_ms=300_000)
    assert metric(redis, "klines_weight_limit", pool="spot", egress="home") == 6000
    assert metric(redis, "klines_weight_limit", pool="spot", egress="other") == 1200
    assert metric(redis, "klines_weight_limit", pool="spot", egress="gone") is None
    assert metric(redis, "klines_pool_closed_seconds", pool="spot", egress="home") == 0
    closed_s = metric(redis, "klines_pool_closed_seconds", pool="spot", egress="other")
    assert closed_s
    assert 200 < closed_s <= 300


def test_a_pool_that_nobody_has_asked_is_left_out_and_not_told_as_unused(redis: Redis) -> None:
    serve(redis, "rest.futures@home")
    for name in (
        "weight_used",
        "weight_limit",
        "pool_closed_seconds",
        "exchange_clock_offset_seconds",
    ):
        assert metric(redis, f"klines_{name}", pool="futures", egress="home") is None


def test_names_that_seem_to_be_one_address_are_told_by_pool(redis: Redis) -> None:
    redis.hset(SHARED_EGRESS, "spot home other", f"7 {MINUTES_IN_A_ROW}")
    redis.hset(SHARED_EGRESS, "futures home other", "7 1")
    assert [
        metric(redis, "klines_shared_egress_pairs", pool=pool) for pool in ("spot", "futures")
    ] == [1, 0]


def test_weight_used_and_the_exchanges_clock_are_told_once_an_answer_has_told_them(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One moment for all budgets, amid a minute: the weight used is that of the running minute.
    at_ms = now_ms(redis) // MINUTE_MS * MINUTE_MS + MINUTE_MS // 2
    monkeypatch.setattr(
        "klinefleet.tasks.fleet.metrics_collector.RedisBudget", partial(RedisBudget, now_ms=at_ms)
    )
    serve(redis, "rest.spot@home")
    budget = RedisBudget(redis, "spot", "home", now_ms=at_ms)
    grant = budget.take(5)
    assert isinstance(grant, Grant)
    budget.learn(grant, used=17, date_ms=at_ms + 120_000, served=True, rtt_ms=10)
    assert metric(redis, "klines_weight_used", pool="spot", egress="home") == 17
    assert metric(
        redis, "klines_exchange_clock_offset_seconds", pool="spot", egress="home"
    ) == pytest.approx(120.5, abs=0.01)


def test_what_runs_have_under_way_is_told_until_they_end(
    redis: Redis, runs: Runs, run: str
) -> None:
    put_under_way(runs, run, JANUARY, windows(3))
    put_under_way(runs, run, FEBRUARY, [])
    runs.partitions.finish_window(
        run,
        windows(3)[0],
        {"windows_failed": 1},
        records=[Record(Level.FAILED, "Refused: no", MINUTES)],
    )
    assert metric(redis, "klines_runs_active") == 1
    assert metric(redis, "klines_windows_in_flight") == 2
    assert metric(redis, "klines_failures") == 1
    assert metric(redis, "klines_partitions_waiting", status="fetching") == 1
    assert metric(redis, "klines_partitions_waiting", status="compacting") == 1
    runs.end(run, runs.progress(run).state)  # type: ignore[union-attr]
    assert metric(redis, "klines_runs_active") == 0
    assert metric(redis, "klines_partitions_waiting", status="fetching") == 0


def test_the_oldest_window_and_compaction_age_from_when_they_began_to_wait(
    redis: Redis, runs: Runs, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_under_way(runs, run, JANUARY, windows(1))
    monkeypatch.setattr(
        "klinefleet.tasks.fleet.metrics_collector.now_ms", lambda redis: now_ms(redis) + 300_000
    )
    assert metric(redis, "klines_oldest_window_seconds") == pytest.approx(300, abs=60)
    assert metric(redis, "klines_oldest_compaction_seconds") is None
    assert runs.partitions.finish_window(run, windows(1)[0], {"windows_done": 1}).is_last
    assert metric(redis, "klines_oldest_window_seconds") is None
    assert metric(redis, "klines_oldest_compaction_seconds") == pytest.approx(300, abs=60)
    assert runs.partitions.begin_compaction(run, JANUARY, 1)
    assert runs.partitions.close(run, JANUARY, 1, {})
    assert metric(redis, "klines_oldest_compaction_seconds") is None


def test_a_partition_that_is_fetched_again_waits_anew(redis: Redis, runs: Runs, run: str) -> None:
    put_under_way(runs, run, JANUARY, [])
    assert runs.partitions.begin_compaction(run, JANUARY, 1)
    runs.partitions.reopen(run, JANUARY, 1, [Refetch(windows(1)[0], "again", 9)])
    assert metric(redis, "klines_oldest_compaction_seconds") is None
    assert metric(redis, "klines_oldest_window_seconds") == pytest.approx(0, abs=60)


def test_each_worker_tells_its_own_store_also_where_redis_has_none_or_is_away(
    tmp_path: Path, redis: Redis, redis_url: str
) -> None:
    for url in (redis_url, f"unix://{tmp_path}/nowhere.sock"):
        store = FleetStore(redis, StoreRef("", "s3://lake"))
        registry = build_registry(tmp_path, url, store)
        assert b"klines_store_info{" not in generate_latest(registry)
        store.learn("a1")
        labels = {"id": "a1", "url": "s3://lake"}
        assert registry.get_sample_value("klines_store_info", labels) == 1


def test_without_redis_a_scrape_tells_that_and_nothing_false(tmp_path: Path) -> None:
    body = generate_latest(build_registry(tmp_path, f"unix://{tmp_path}/nowhere.sock")).decode()
    told = [line for line in body.splitlines() if not line.startswith("#")]
    assert told == ["klines_redis_up 0.0"]

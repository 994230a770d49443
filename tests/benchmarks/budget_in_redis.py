"""What the weight budget costs one Redis: many addresses, busy beside others, in simulated time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from redis import Redis

from deploy.simulator.neighbours import burst
from klinefleet.workers.support.clock import ManualClock
from tests.benchmarks.measure import show
from tests.servers import RedisServer
from tests.unit.helpers.budgets import LIMIT, START_MS
from tests.unit.helpers.fleet_model import Shape, busy_fleet, go_on
from tests.unit.helpers.redis_budget import ManualRedisBudget

ADDRESSES = 100
WORKERS = 2
#: Connections of each worker, as many as its threads.
SLOTS = 50
#: What a page of 499 rows costs.
WEIGHT = 2
MINUTES = 3


def budget_in_redis() -> None:
    """Redis's processor time per call and per address, and how many addresses one Redis carries."""
    with tempfile.TemporaryDirectory(prefix="klines-bench-") as folder:
        server = RedisServer(Path(folder))
        try:
            _measure(Redis.from_url(server.url))
        finally:
            server.stop()


def _measure(redis: Redis) -> None:
    clock = ManualClock(START_MS + 13_500)
    shape = Shape(WORKERS * SLOTS, WEIGHT)
    models = []
    for number in range(ADDRESSES):
        budget = ManualRedisBudget(clock, redis=redis, egress=f"at-{number}")
        models.append(busy_fleet(budget, clock, shape, burst(600, 0.3), limit=LIMIT, seed=number))
    for model in models:
        model.begin()
    go_on(models, 46.5 / 60)
    began, began_cpu_s, began_s = _scripts(redis), _cpu_s(redis), time.monotonic()
    go_on(models, MINUTES)
    scripts = _scripts(redis) - began
    cpu_s = _cpu_s(redis) - began_cpu_s
    calls = sum(model.granted for model in models) / WEIGHT
    minutes = range(START_MS // 60_000 + 1, START_MS // 60_000 + 1 + MINUTES)
    shares = [model.books.share_used(minute) for model in models for minute in minutes]
    show(
        f"{ADDRESSES} addresses × {WORKERS} workers × {SLOTS} slots, others on each, "
        f"{MINUTES} simulated minutes",
        least_share=min(shares),
        refused_429=sum(model.books.refused for model in models),
        scripts_per_call=scripts / calls,
        redis_us_per_script=cpu_s / scripts * 1e6,
        redis_ms_per_address_and_minute=cpu_s / ADDRESSES / MINUTES * 1e3,
        addresses_that_fill_a_redis=60 / (cpu_s / ADDRESSES / MINUTES),
        seconds=time.monotonic() - began_s,
    )


def _scripts(redis: Redis) -> int:
    stats = redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


def _cpu_s(redis: Redis) -> float:
    cpu = redis.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

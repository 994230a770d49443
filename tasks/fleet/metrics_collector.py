"""Metrics of the whole fleet, read from Redis at each scrape; every worker exports the same.

Only the worker's own store is not read from Redis: workers of two stores would show there as one.

A value that is not known is left out, never exported as 0: a pool without a call yet, a clock not
yet measured, the age of the oldest window if none is pending.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import Redis, RedisError

from klinefleet.tasks.runs.progress import Phase
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.coordination.heartbeat import live_workers
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.queues import QUEUES
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.limits.shared_egress import shared_egress_pairs
from klinefleet.workers.support import metrics
from klinefleet.workers.support.metrics import Gauge

#: A gauge, the values of its labels, and its value.
Sample = tuple[Gauge, tuple[str, ...], float]

_AGE_GAUGES = {
    Phase.FETCHING: metrics.OLDEST_WINDOW_SECONDS,
    Phase.COMPACTING: metrics.OLDEST_COMPACTION_SECONDS,
}


class FleetCollector(Collector):
    """Reads the fleet's gauges from Redis; if Redis is away, only that and the store are told."""

    def __init__(self, redis: Redis, fleet_store: FleetStore | None = None) -> None:
        self._redis = redis
        self._fleet_store = fleet_store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges with their current values."""
        try:
            samples: list[Sample] = [*self._read(), (metrics.REDIS_UP, (), 1)]
        except (RedisError, OSError):
            samples = [(metrics.REDIS_UP, (), 0)]
        if self._fleet_store and (own := self._fleet_store.own).id:
            samples.append((metrics.STORE_INFO, (own.id, own.url), 1))
        families: dict[str, GaugeMetricFamily] = {}
        for gauge, labels, value in samples:
            family = families.setdefault(
                gauge.name, GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            )
            family.add_metric(labels, value)
        yield from families.values()

    def _read(self) -> Iterator[Sample]:
        workers = [name.partition("@") for name in live_workers(self._redis)]
        worker_queues = [queue for queue, _, _ in workers]
        egresses = sorted({egress for _, _, egress in workers if egress})
        for pool in Pool:
            yield metrics.SHARED_EGRESS_PAIRS, (pool,), len(shared_egress_pairs(self._redis, pool))
            for egress in egresses:
                yield from self._budget(pool, egress)
        for queue in QUEUES:
            yield metrics.WORKERS, (queue,), worker_queues.count(queue)
            yield metrics.QUEUE_LENGTH, (queue,), self._redis.llen(queue)
        yield from self._runs()

    def _budget(self, pool: Pool, egress: str) -> Iterator[Sample]:
        state, labels = RedisBudget(self._redis, pool, egress).state(), (pool, egress)
        if state.limit is not None:
            yield metrics.WEIGHT_LIMIT, labels, state.limit
        if state.offset_ms is not None:
            yield metrics.CLOCK_OFFSET_SECONDS, labels, state.offset_ms / 1000
        if state.limit is not None or state.offset_ms is not None:
            yield metrics.WEIGHT_USED, labels, state.used
            yield metrics.POOL_CLOSED_SECONDS, labels, state.closed_ms / 1000

    def _runs(self) -> Iterator[Sample]:
        backlog, now = Runs(self._redis).backlog(), now_ms(self._redis)
        yield metrics.RUNS_ACTIVE, (), len(backlog)
        yield metrics.WINDOWS_IN_FLIGHT, (), sum(run.windows for run in backlog)
        yield metrics.FAILURES, (), sum(run.failed for run in backlog)
        for phase, age_gauge in _AGE_GAUGES.items():
            since_ms = list(chain.from_iterable(run.since_ms(phase) for run in backlog))
            yield metrics.PARTITIONS_WAITING, (phase,), len(since_ms)
            if since_ms:
                yield age_gauge, (), (now - min(since_ms)) / 1000

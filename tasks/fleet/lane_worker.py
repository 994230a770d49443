"""One lane in one process: a Celery worker with a heartbeat, chores beside it, and an end in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

from celery.signals import worker_ready, worker_shutting_down

import klinefleet.tasks.catalog
import klinefleet.tasks.compact
import klinefleet.tasks.fetch
import klinefleet.tasks.plan
import klinefleet.tasks.verify  # noqa: F401 - imported before the fork, so that lanes start at once
from klinefleet.tasks.fleet.bootsteps import ConsumerGate, beat_in_loop
from klinefleet.tasks.fleet.lanes import Lane
from klinefleet.tasks.fleet.periodic import run_periodically
from klinefleet.tasks.planning.new_runs import enqueue_new_runs, requeue_leaderless_runs
from klinefleet.tasks.runs.log_context import connect_task_logging
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.app import connect
from klinefleet.workers.coordination.heartbeat import live_workers
from klinefleet.workers.coordination.liveness import HealthFile
from klinefleet.workers.coordination.node_names import node_name
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.queues import PLAN, rest_queue
from klinefleet.workers.limits.shared_egress import detect_shared_egress
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings

#: A lane whose worker was killed has so long to let go of what it does.
ORPHAN_S = 3.0


def serve(settings: Settings, lane: Lane, loglevel: str) -> int:
    """Run one lane in this process until it is told to stop; returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    services = Services(settings, queue=lane.queue, pool=lane.pool)
    app = connect(settings, services)
    app.set_current()
    connect_task_logging()
    health_file = HealthFile(lane.queue)
    beat_in_loop(app, health_file)
    chores: list[Callable[[], None]] = []
    has_ended = threading.Event()
    if lane.queue == PLAN:
        chores.append(partial(requeue_leaderless_runs, services))
    if lane.pool:
        chores.append(partial(_attend_to_budget, services, lane.pool))
        app.steps["worker"].add(ConsumerGate)

    def ready(**_: object) -> None:
        services.heartbeat.start()
        threading.Thread(
            target=run_periodically, args=[chores, has_ended], name="chores", daemon=True
        ).start()
        if lane.queue == PLAN:
            threading.Thread(
                target=enqueue_new_runs, args=[services], name="new-runs", daemon=True
            ).start()

    parent = os.getppid()
    has_address = lane.pool and settings.egress != Settings.egress
    name = node_name(f"{lane.queue}-{settings.egress}" if has_address else lane.queue)
    multiprocessing.current_process().name = (
        name  # read by the log: the lane that a line comes from
    )

    def stopping(**_: object) -> None:
        services.stop.set()
        ends = threading.Timer(ORPHAN_S, _end_orphan, [parent])
        ends.daemon = True
        ends.start()

    worker_ready.connect(ready)
    worker_shutting_down.connect(stopping)
    worker = app.Worker(
        pool="threads",
        concurrency=lane.tasks(settings),
        queues=[lane.queue],
        hostname=name,
        without_gossip=True,
        without_mingle=True,
        task_events=True,
        loglevel=loglevel,
        quiet=True,
    )
    worker.start()
    has_ended.set()
    services.heartbeat.stop()
    health_file.remove()
    return int(worker.exitcode or 0)


def _end_orphan(parent: int) -> None:
    """End at once where whoever started us was killed, and perhaps Redis with it: our work comes
    back elsewhere.
    """
    if os.getppid() != parent:
        os._exit(1)


def _attend_to_budget(services: Services, pool: Pool) -> None:
    """Refresh the budget's limit, the slots' demand and whether the pool is closed; detect shared
    egress.
    """
    services.symbol_cache.apply_weight_limit(pool)
    sharers = live_workers(services.redis).count(f"{rest_queue(pool)}@{services.settings.egress}")
    services.heartbeat.report_width(services.rest_slots.width, services.rest_slots.max_width)
    services.rest_slots.set_demand(Runs(services.redis).weight_ahead(pool), max(1, sharers))
    services.refresh_pool_closed(pool)
    detect_shared_egress(services.redis, pool, services.budgets(pool))

"""One lane in one process: a Celery worker with heartbeat, periodic jobs and clean shutdown."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from celery.exceptions import SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from redis import RedisError

import klinefleet.tasks.catalog
import klinefleet.tasks.compact
import klinefleet.tasks.fetch
import klinefleet.tasks.migrate
import klinefleet.tasks.plan
import klinefleet.tasks.verify  # noqa: F401 - imported before the fork, so that lanes start at once
from klinefleet.tasks.fleet.bootsteps import ConsumerGate, beat_in_loop
from klinefleet.tasks.fleet.join import learn_store_id
from klinefleet.tasks.fleet.lanes import Lane
from klinefleet.tasks.fleet.patient_consumer import PatientConsumer
from klinefleet.tasks.fleet.periodic import run_periodically
from klinefleet.tasks.fleet.sweep import sweep_daily
from klinefleet.tasks.planning.new_runs import enqueue_new_runs, requeue_leaderless_runs
from klinefleet.tasks.runs.log_context import connect_task_logging
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.app import connect
from klinefleet.workers.coordination.heartbeat import live_workers
from klinefleet.workers.coordination.liveness import HealthFile
from klinefleet.workers.coordination.node_names import node_name
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.queues import PLAN, rest_queue
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.limits.shared_egress import detect_shared_egress
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings

#: Seconds that a lane has to finish its tasks once its supervisor was killed.
ORPHAN_S = 3.0
#: Workers need not know of each other (gossip, mingle): they share their state in Redis.
_WORKER_OPTIONS: dict[str, Any] = {
    "pool": "threads",
    "consumer_cls": PatientConsumer,
    "task_events": True,
    "without_gossip": True,
    "without_mingle": True,
    "quiet": True,
}


def serve(
    settings: Settings, lane: Lane, loglevel: str, store: StoreRef, health_file: HealthFile
) -> int:
    """Run one lane of a store in this process until SIGTERM; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    services = Services(settings, queue=lane.queue, pool=lane.pool, own_store=store)
    ignore_superuser_warning(settings)
    app = connect(settings, services)
    app.set_current()
    connect_task_logging()
    beat_in_loop(app, health_file)
    app.steps["worker"].add(ConsumerGate)
    # The log reads the process's name to say which lane a line comes from.
    name = multiprocessing.current_process().name = _node_name(settings, lane)

    has_ended, supervisor_pid = threading.Event(), os.getppid()

    def on_ready(**_: object) -> None:
        services.heartbeat.start()
        _start_thread("periodic", run_periodically, _periodic_jobs(services, lane), has_ended)
        _start_thread("store-id", learn_store_id, services, has_ended)
        if lane.queue == PLAN:
            _start_thread("new-runs", enqueue_new_runs, services)
            _start_thread("sweep", sweep_daily, services, has_ended)

    def on_shutdown(**_: object) -> None:
        services.stop.set()
        timer = threading.Timer(ORPHAN_S, _exit_if_orphaned, [supervisor_pid])
        timer.daemon = True
        timer.start()

    with suppress(RedisError):  # the first heartbeat asks again
        services.fleet_store.keep()
    worker_ready.connect(on_ready)
    worker_shutting_down.connect(on_shutdown)
    worker = app.Worker(
        hostname=name,
        queues=[lane.queue],
        concurrency=lane.concurrency(settings),
        loglevel=loglevel,
        **_WORKER_OPTIONS,
    )
    worker.start()
    has_ended.set()
    services.heartbeat.stop()
    health_file.remove()
    return int(worker.exitcode or 0)


def ignore_superuser_warning(settings: Settings) -> None:
    """Silence Celery's warning of a worker that runs as root, where Redis is a private one.

    A socket on this machine takes tasks of this user alone, who is root already.
    """
    if (settings.redis_url or "").startswith("unix://"):
        warnings.filterwarnings("ignore", category=SecurityWarning)


def _node_name(settings: Settings, lane: Lane) -> str:
    """Return the lane's name in Flower; REST lanes carry the egress, if one is configured."""
    has_egress = lane.pool and settings.egress != Settings.egress
    return node_name(f"{lane.queue}-{settings.egress}" if has_egress else lane.queue)


def _start_thread(name: str, target: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=target, args=args, name=name, daemon=True).start()


def _periodic_jobs(services: Services, lane: Lane) -> list[Callable[[], None]]:
    jobs: list[Callable[[], None]] = []
    if lane.queue == PLAN:
        jobs.append(partial(requeue_leaderless_runs, services))
    if lane.pool:
        jobs.append(partial(_refresh_budget, services, lane.pool))
    return jobs


def _exit_if_orphaned(supervisor_pid: int) -> None:
    """Exit at once if the supervisor was killed, and perhaps Redis with it.

    The tasks count as lost and are sent again.
    """
    if os.getppid() != supervisor_pid:
        os._exit(1)


def _refresh_budget(services: Services, pool: Pool) -> None:
    """Refresh limit, demand and closed flag; report this lane's width; check for shared egress."""
    services.symbol_cache.apply_weight_limit(pool)
    sharers = live_workers(services.redis).count(f"{rest_queue(pool)}@{services.settings.egress}")
    services.heartbeat.report_width(services.rest_slots.width, services.rest_slots.max_width)
    services.rest_slots.set_demand(Runs(services.redis).remaining_weight(pool), max(1, sharers))
    services.refresh_pool_closed(pool)
    detect_shared_egress(services.redis, pool, services.budgets(pool))

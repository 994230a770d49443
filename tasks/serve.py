"""One lane in one process: a Celery worker with a heartbeat, chores beside it, and an end in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

from celery.signals import worker_ready, worker_shutting_down

import tasks.catalog
import tasks.compact
import tasks.fetch
import tasks.plan
import tasks.verify  # noqa: F401 - imported before the fork, so that lanes start at once
from tasks.lanes import Lane
from tasks.plan import answer_bell, wake_leaderless
from tasks.runs.store import Runs
from workers.app import connect
from workers.binance.markets import Pool
from workers.chores import do_chores
from workers.heart import living
from workers.limits.twins import look_for_twins
from workers.liveness import Alive, beat_in_loop
from workers.names import node_name
from workers.queues import PLAN, rest_queue
from workers.settings import Settings
from workers.toolbox import Toolbox
from workers.valve import Valve

#: A lane whose worker was killed has so long to let go of what it does.
ORPHAN_S = 3.0


def serve(settings: Settings, lane: Lane, loglevel: str) -> int:
    """Run one lane in this process until it is told to stop; returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    toolbox = Toolbox(settings, queue=lane.queue, pool=lane.pool)
    app = connect(settings, toolbox)
    alive = Alive(lane.queue)
    beat_in_loop(app, alive)
    chores: list[Callable[[], None]] = []
    has_ended = threading.Event()
    if lane.queue == PLAN:
        chores.append(partial(wake_leaderless, toolbox))
    if lane.pool:
        chores.append(partial(_attend_to_budget, toolbox, lane.pool))
        app.steps["worker"].add(Valve)

    def ready(**_: object) -> None:
        toolbox.heart.start()
        threading.Thread(target=do_chores, args=[chores, has_ended], name="chores", daemon=True).start()
        if lane.queue == PLAN:
            threading.Thread(target=answer_bell, args=[toolbox], name="bell", daemon=True).start()

    parent = os.getppid()
    has_address = lane.pool and settings.egress != Settings.egress
    name = node_name(f"{lane.queue}-{settings.egress}" if has_address else lane.queue)
    multiprocessing.current_process().name = name  # read by the log: the lane that a line comes from

    def stopping(**_: object) -> None:
        toolbox.stop.set()
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
    toolbox.heart.stop()
    alive.end()
    return int(worker.exitcode or 0)


def _end_orphan(parent: int) -> None:
    """End at once where whoever started us was killed, and perhaps Redis with it: our work comes back elsewhere."""
    if os.getppid() != parent:
        os._exit(1)


def _attend_to_budget(toolbox: Toolbox, pool: Pool) -> None:
    """Have the budget know its limit, the slots their demand, the valve whether to take tasks; and look for twins."""
    toolbox.listings.note_limit(pool)
    sharers = living(toolbox.redis).count(f"{rest_queue(pool)}@{toolbox.settings.egress}")
    toolbox.heart.tell_width(toolbox.slots.width, toolbox.slots.most)
    toolbox.slots.demand(Runs(toolbox.redis).weight_ahead(pool), max(1, sharers))
    toolbox.note_closed(pool)
    look_for_twins(toolbox.redis, pool, toolbox.budgets(pool))

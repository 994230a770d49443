"""The worker: one Celery process per lane, so that a lane that waits for weight never holds up another."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from celery.signals import worker_ready, worker_shutting_down

import tasks.catalog
import tasks.compact
import tasks.fetch
import tasks.plan  # noqa: F401 - imported before the fork, so that lanes start at once
from tasks.plan import answer_bell, wake_leaderless
from tasks.progress import Runs
from workers.app import connect
from workers.binance.markets import Pool
from workers.cores import cores
from workers.errors import RequestError
from workers.heart import living
from workers.limits.twins import look_for_twins
from workers.liveness import Alive, beat_in_loop
from workers.names import node_name
from workers.private_redis import die_with_parent
from workers.queues import ARCHIVE, COMPACT, PLAN, rest_queue
from workers.settings import Settings
from workers.toolbox import LONGEST_CLOSED_S, Toolbox
from workers.valve import Valve

if TYPE_CHECKING:
    from tasks.exposition import Exposition

logger = logging.getLogger(__name__)

#: A lane that ends on its own is started again after this long.
RESTART_S = 1.0

#: What the process is called that serves metrics, and how long it may take to end.
METRICS, METRICS_END_S = "metrics", 5.0

#: A lane whose worker was killed has so long to let go of what it does.
ORPHAN_S = 3.0


@dataclass(frozen=True, slots=True)
class Lane:
    """One queue and how many of its tasks a process runs at once."""

    queue: str
    pool: Pool | None
    tasks: Callable[[Settings], int]


#: A third as many windows as slots: each has several pages, so the slots stay full, and other workers get some too.
_FETCHES: Callable[[Settings], int] = lambda settings: max(4, settings.slots // 3)  # noqa: E731

LANES = (
    Lane(PLAN, None, lambda _: 8),
    Lane(rest_queue(Pool.SPOT), Pool.SPOT, _FETCHES),
    Lane(rest_queue(Pool.FUTURES), Pool.FUTURES, _FETCHES),
    Lane(rest_queue(Pool.FUNDING), Pool.FUNDING, lambda _: 4),
    Lane(ARCHIVE, None, _FETCHES),
    Lane(COMPACT, None, lambda settings: min(settings.slots, cores())),
)


def lanes_of(names: str | None) -> list[Lane]:
    """Return the lanes of a comma-separated list of queues, all of them for None; RequestError for unknown ones."""
    known = {lane.queue: lane for lane in LANES}
    wanted = [name.strip() for name in names.split(",")] if names else list(known)
    for name in wanted:
        if name not in known:
            raise RequestError(f"no queue {name!r}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


class Crew:
    """The lanes' processes, children of this one; a lane that dies is started again until the crew is stopped.

    Where metrics are wanted, one more process serves them.
    """

    def __init__(self, settings: Settings, lanes: list[Lane], *, loglevel: str = "INFO") -> None:
        self._settings = settings
        self._loglevel = loglevel
        self._lanes: dict[int, tuple[str, Callable[[], int]]] = {}
        self._exposition = _exposition(settings) if settings.metrics_port else None
        for lane in lanes:
            Alive(lane.queue).expect()
            self._start(lane.queue, partial(self._serve, lane))
        if self._exposition:
            self._start(METRICS, self._exposition.serve)

    def watch(self) -> None:
        """Keep every lane running until the process is told to stop, then let the lanes finish what they do."""
        told: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda caught, _frame: told.append(caught))
        while not told:
            self.tend()
            time.sleep(0.1)
        self.stop()

    def tend(self) -> None:
        """Start again what ended on its own."""
        for pid, (name, work) in list(self._lanes.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._lanes[pid]
                logger.error("lane %s ended on its own; starting it again", name)
                time.sleep(RESTART_S)
                self._start(name, work)

    def stop(self, within_s: float = 60.0) -> None:
        """Tell the lanes to stop and return when they have; one that does not is killed (its work comes back).

        Metrics are served until the last lane has ended.
        """
        _end({pid for pid, (name, _) in self._lanes.items() if name != METRICS}, within_s)
        if self._exposition:
            _end({pid for pid, (name, _) in self._lanes.items() if name == METRICS}, METRICS_END_S)
            self._exposition.close()
        self._lanes.clear()

    def _serve(self, lane: Lane) -> int:
        if self._exposition:
            self._exposition.record(lane.queue)
        return serve(self._settings, lane, self._loglevel)

    def _start(self, name: str, work: Callable[[], int]) -> None:
        # Ctrl-C waits for the fork's end: Python drops what is raised in the callbacks of a fork.
        caught: list[int] = []
        held = signal.signal(signal.SIGINT, lambda number, _frame: caught.append(number))
        pid = os.fork()
        if pid:
            self._lanes[pid] = name, work
            signal.signal(signal.SIGINT, held)
            for number in caught:
                signal.raise_signal(number)
            return
        os.setsid()
        die_with_parent()
        # Results alone go to stdout, and the library greets and takes leave there; what matters is logged.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        try:
            code = work()
        except BaseException:
            logger.exception("lane %s", name)
            code = 1
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _exposition(settings: Settings) -> Exposition:
    # Imported where metrics are wanted: the library takes as long to import as a command to start.
    from tasks.exposition import Exposition

    return Exposition(settings)


def _end(left: set[int], within_s: float) -> None:
    """Tell children to stop and return when they have; those that do not are killed."""
    for pid in left:
        os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + within_s
    while left and time.monotonic() < ends:
        left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def serve(settings: Settings, lane: Lane, loglevel: str) -> int:
    """Run one lane in this process until it is told to stop; returns its exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    toolbox = Toolbox(settings, queue=lane.queue, pool=lane.pool)
    app = connect(settings, toolbox)
    alive = Alive(lane.queue)
    beat_in_loop(app, alive)
    chores: list[Callable[[], None]] = []
    if lane.queue == PLAN:
        chores.append(partial(wake_leaderless, toolbox))
    if lane.pool:
        chores.append(partial(_attend_to_budget, toolbox, lane.pool))
        app.steps["worker"].add(Valve)

    def ready(**_: object) -> None:
        toolbox.heart.start(*chores)
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
    toolbox.is_closed = toolbox.budget(pool).state().closed_ms > LONGEST_CLOSED_S * 1000
    look_for_twins(toolbox.redis, pool, toolbox.budgets(pool))

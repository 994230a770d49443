"""A worker's supervisor: starts the processes of its lanes, restarts dead ones, stops them all."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from klinefleet.tasks.fleet.lane_worker import serve
from klinefleet.tasks.fleet.lanes import Lane
from klinefleet.workers.coordination.liveness import WorkerHealth
from klinefleet.workers.coordination.private_redis import die_with_parent
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.support.settings import Settings

if TYPE_CHECKING:
    from klinefleet.tasks.fleet.metrics_server import MetricsServer


logger = logging.getLogger(__name__)

#: Seconds before a lane that has died is started again.
RESTART_S = 1.0
#: The name of the process that serves metrics.
METRICS = "metrics"
#: Seconds that it may take to end.
METRICS_END_S = 5.0

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """The processes of a worker's lanes, children of this one, which serve `store`.

    With a metrics port, one more process serves metrics.
    """

    def __init__(
        self, settings: Settings, lanes: list[Lane], store: StoreRef, *, loglevel: str = "INFO"
    ) -> None:
        self._settings = settings
        self._store = store
        self._loglevel = loglevel
        self._children: dict[int, tuple[str, Callable[[], int]]] = {}
        self._metrics_server = _metrics_server(settings, store) if settings.metrics_port else None
        # What is loaded by now stays shared with the children: their collectors never touch it.
        gc.freeze()
        self._health = WorkerHealth()
        for lane in lanes:
            self._health.lane(lane.queue).expect()
            self._start(lane.queue, partial(self._serve_lane, lane))
        if self._metrics_server:
            self._start(METRICS, self._metrics_server.serve)

    def run_until_signal(self) -> None:
        """Keep every lane running until SIGTERM or SIGINT, then stop them."""
        caught: list[int] = []
        for number in _STOP_SIGNALS:
            signal.signal(number, lambda number, _frame: caught.append(number))
        while not caught:
            self.restart_dead()
            time.sleep(0.1)
        self.stop()

    def restart_dead(self) -> None:
        """Restart the lanes that have ended on their own."""
        for pid, (name, work) in list(self._children.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._children[pid]
                logger.error("lane %s ended on its own; starting it again", name)
                time.sleep(RESTART_S)
                self._start(name, work)

    def stop(self, within_s: float = 60.0) -> None:
        """Stop the lanes and return when they have finished their tasks.

        A lane that takes longer than `within_s` is killed; its tasks count as lost and are sent
        again. Metrics are served until the last lane has ended.
        """
        _terminate(self._pids(is_metrics=False), within_s)
        if self._metrics_server:
            _terminate(self._pids(is_metrics=True), METRICS_END_S)
            self._metrics_server.close()
        self._children.clear()
        self._health.close()

    def _pids(self, *, is_metrics: bool) -> set[int]:
        return {pid for pid, (name, _) in self._children.items() if (name == METRICS) is is_metrics}

    def _serve_lane(self, lane: Lane) -> int:
        if self._metrics_server:
            self._metrics_server.record_lane(lane.queue)
        health_file = self._health.lane(lane.queue)
        return serve(self._settings, lane, self._loglevel, self._store, health_file)

    def _start(self, name: str, work: Callable[[], int]) -> None:
        # Signals are caught until after the fork: Python discards exceptions that a handler raises
        # in at-fork hooks.
        caught: list[int] = []
        handlers = {
            number: signal.signal(number, lambda number, _frame: caught.append(number))
            for number in _STOP_SIGNALS
        }
        parent, pid = os.getpid(), os.fork()
        if not pid:
            _run_child(name, work, parent, caught)
        self._children[pid] = name, work
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for signal_number in caught:
            signal.raise_signal(signal_number)


def _run_child(name: str, work: Callable[[], int], parent: int, caught: list[int]) -> NoReturn:
    """Do the work in this process, a new child of `parent`, and exit."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(parent)
    if caught:
        # A signal came during the fork: to the child, or to the parent, which will stop the child.
        os._exit(1)
    # stdout is for results alone, and Celery prints a banner there. Logs go to stderr.
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


def _metrics_server(settings: Settings, store: StoreRef) -> MetricsServer:
    # Imported only if needed: prometheus_client takes as long to import as a command to start.
    from klinefleet.tasks.fleet.metrics_server import MetricsServer

    return MetricsServer(settings, store)


def _terminate(pids: set[int], within_s: float) -> None:
    """Send SIGTERM and return when all processes have ended; kill those that take too long."""
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + within_s
    while pids and time.monotonic() < ends:
        pids -= {pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.02)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

"""A worker: the processes of its lanes, started, kept running and ended together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from klinefleet.tasks.fleet.lane_worker import serve
from klinefleet.tasks.fleet.lanes import Lane
from klinefleet.workers.coordination.liveness import HealthFile
from klinefleet.workers.coordination.private_redis import die_with_parent
from klinefleet.workers.support.settings import Settings

if TYPE_CHECKING:
    from klinefleet.tasks.fleet.metrics_server import MetricsServer


logger = logging.getLogger(__name__)

#: A lane that ends on its own is started again after this long.
RESTART_S = 1.0

#: Signals that end a worker.
_ENDS = (signal.SIGTERM, signal.SIGINT)

#: What the process is called that serves metrics, and how long it may take to end.
METRICS, METRICS_END_S = "metrics", 5.0


class Supervisor:
    """The lanes' processes, children of this one; a lane that dies is started again until the
    supervisor is stopped.

    Where metrics are wanted, one more process serves them.
    """

    def __init__(self, settings: Settings, lanes: list[Lane], *, loglevel: str = "INFO") -> None:
        self._settings = settings
        self._loglevel = loglevel
        self._lanes: dict[int, tuple[str, Callable[[], int]]] = {}
        self._exposition = _exposition(settings) if settings.metrics_port else None
        for lane in lanes:
            HealthFile(lane.queue).expect()
            self._start(lane.queue, partial(self._serve, lane))
        if self._exposition:
            self._start(METRICS, self._exposition.serve)

    def watch(self) -> None:
        """Keep every lane running until the process is told to stop, then let the lanes finish what
        they do.
        """
        told: list[int] = []
        for number in _ENDS:
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
        """Tell the lanes to stop and return when they have; one that does not is killed (its work
        comes back).

        Metrics are served until the last lane has ended.
        """
        _terminate({pid for pid, (name, _) in self._lanes.items() if name != METRICS}, within_s)
        if self._exposition:
            _terminate(
                {pid for pid, (name, _) in self._lanes.items() if name == METRICS}, METRICS_END_S
            )
            self._exposition.close()
        self._lanes.clear()

    def _serve(self, lane: Lane) -> int:
        if self._exposition:
            self._exposition.record(lane.queue)
        return serve(self._settings, lane, self._loglevel)

    def _start(self, name: str, work: Callable[[], int]) -> None:
        # What we are told waits for the fork's end: Python drops what is raised in the callbacks of
        # a fork.
        caught: list[int] = []
        held = {
            end: signal.signal(end, lambda number, _frame: caught.append(number)) for end in _ENDS
        }
        parent, pid = os.getpid(), os.fork()
        if pid:
            self._lanes[pid] = name, work
            for end, handler in held.items():
                signal.signal(end, handler)
            for number in caught:
                signal.raise_signal(number)
            return
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(parent)
        if caught:
            # The child was told before it could listen, or the parent, which is about to tell the
            # child.
            os._exit(1)
        # Results alone go to stdout, and the library greets and takes leave there; what matters is
        # logged.
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


def _exposition(settings: Settings) -> MetricsServer:
    # Imported where metrics are wanted: the library takes as long to import as a command to start.
    from klinefleet.tasks.fleet.metrics_server import MetricsServer

    return MetricsServer(settings)


def _terminate(left: set[int], within_s: float) -> None:
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

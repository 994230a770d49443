"""Threads that work for a task and say so in their log lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import chain, islice
from typing import Any, TypeVar

S = TypeVar("S")

T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """A pool whose work runs in the context of whoever handed it in: run, task and window stand in
    its log lines.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(copy_context().run, fn, *args, **kwargs)

    def each(self, work: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """Return what `work` returns for each item, in their order.

        Where one raises, those not begun are left out, and the error comes when all that were begun
        have ended: `map` would let them go on behind the back of whoever is told that it failed.
        """
        given = [self.submit(work, item) for item in items]
        try:
            wait(given, return_when=FIRST_EXCEPTION)
        finally:
            begun = [one for one in given if not one.cancel()]
            wait(begun)
        return [one.result() for one in begun]


def in_turn(jobs: Iterable[Callable[[], T]], most: int) -> Iterator[T]:
    """Yield what the jobs return, in their order, while at most `most` of them run or wait to be
    taken.
    """
    jobs = iter(jobs)
    begun = list(islice(jobs, 2))
    if len(begun) < 2 or most == 1:
        # Nobody to share the time with.
        yield from (job() for job in chain(begun, jobs))
        return
    with Threads(most, thread_name_prefix="job") as threads:
        running: deque[Future[T]] = deque()
        try:
            for job in chain(begun, jobs):
                running.append(threads.submit(job))
                if len(running) == most:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for left in running:
                left.cancel()

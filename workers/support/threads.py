"""Thread pools whose log lines name the task that they work for."""

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
    """A thread pool that runs work in the submitter's context.

    Log lines of the work then have the submitter's run, task and window.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(copy_context().run, fn, *args, **kwargs)

    def map_all(self, work: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """Return the results of `work` for all items, in their order.

        If one fails, items not begun are skipped, and the error is raised once all begun ones have
        ended. `map` would raise it while they still run.
        """
        futures = [self.submit(work, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            begun = [future for future in futures if not future.cancel()]
            wait(begun)
        return [future.result() for future in begun]


def run_in_order(jobs: Iterable[Callable[[], T]], max_running: int) -> Iterator[T]:
    """Yield the results of jobs in their order; at most `max_running` run or wait to be yielded."""
    jobs = iter(jobs)
    first_two = list(islice(jobs, 2))
    if len(first_two) < 2 or max_running == 1:
        # A single job at a time needs no thread.
        yield from (job() for job in chain(first_two, jobs))
        return
    with Threads(max_running, thread_name_prefix="job") as threads:
        running: deque[Future[T]] = deque()
        try:
            for job in chain(first_two, jobs):
                running.append(threads.submit(job))
                if len(running) == max_running:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()

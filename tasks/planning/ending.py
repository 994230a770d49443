"""The end of a run: its report in the store, then its state in Redis."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.records import NO_REPORT
from klinefleet.tasks.runs.report_file import store_report
from klinefleet.tasks.runs.store import KEPT_RECORDS, Runs
from klinefleet.workers.domain.errors import StoreFault, Unreadable
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)

#: Times that storing a report is tried by a planner, seconds apart.
MAX_REPORT_TRIES = 5


def end_run(
    services: Services,
    runs: Runs,
    run: str,
    counts: Mapping[str, int] = MappingProxyType({}),
    *,
    may_try_again: bool = False,
) -> None:
    """End a run, unless it has ended: as complete if nothing of it failed, else as incomplete.

    A run whose report cannot be stored is incomplete for that, and Redis keeps its records.
    may_try_again: the caller tries again later; then StoreFault is raised the first times.
    """
    progress = _progress_of_active(runs, run)
    if progress is None:
        runs.end(run, State.INCOMPLETE)
        return
    has_failed, reported = bool(progress.failed), 0
    try:
        reported = store_report(services.store, progress)
    except StoreFault as error:
        if may_try_again and runs.partitions.record_attempt(run, "report", MAX_REPORT_TRIES):
            raise
        has_failed = True
        text = f"its report could not be stored: {error.reason}"
        runs.record(run, replace(NO_REPORT, text=text))
    state = State.INCOMPLETE if has_failed else State.COMPLETE
    if runs.end(run, state, counts, reported=reported):
        logger.info("run %s is %s", run, state)


def cancel_run(services: Services, run: str) -> None:
    """Cancel a run, unless it has ended; its records are kept, in a report if they are many."""
    runs = Runs(services.redis)
    progress, reported = _progress_of_active(runs, run), 0
    if progress and len(progress.records) > KEPT_RECORDS:
        with suppress(StoreFault):  # then Redis keeps them
            reported = store_report(services.store, progress)
    runs.end(run, State.CANCELLED, reported=reported)


def _progress_of_active(runs: Runs, run: str) -> Progress | None:
    """Return the progress of a run; None if it has ended, or only a later version can read it."""
    with suppress(Unreadable):
        progress = runs.progress(run)
        if progress and not progress.state.has_ended:
            return progress
    return None

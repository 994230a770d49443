"""Replaces what cannot be used: a file by days or REST, REST by files; and records it."""

from __future__ import annotations

from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.series import Source, Window
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import assign_sources, fallback
from klinefleet.workers.sources.policy import Mode, Policy

_IN_WORDS = {Source.MONTHLY: "monthly files", Source.DAILY: "daily files", Source.REST: "REST"}


def replace_file(
    window: Window, key: str, reason: str, policy: Policy, *, is_refused: bool = False
) -> tuple[list[Window], list[Record]]:
    """Return the windows that answer in place of a file, and what the run has to record of it.

    `window` is the file's part of a window, `key` its key, `reason` why it is unusable. Without any
    replacement the window has failed, and that is all there is to record.
    """
    replacements = fallback(window, policy, is_refused=is_refused)
    if not replacements:
        return [], [Record.for_window(Level.FAILED, window, reason)]
    text = f"{reason}; {_sources(replacements)} instead"
    return replacements, [Record(Level.REPORT, text, window.partition.series, window.span, key)]


def replace_pages(
    services: Services, run: str, window: Window, reason: str
) -> tuple[list[Window], list[Record]]:
    """Return the archive windows that answer in place of REST's, and what the run has to record.

    Time that was answered before has none: there REST was the second witness, and no other source
    can take its place. A window is replaced once.
    """
    partition = window.partition
    answered = [entry.span for entry in services.raw_zone.entries(partition)]
    answered += services.coverage.footer(partition).covered
    parts = spans.gaps(spans.union(answered), window.span)
    if not parts or not Runs(services.redis).partitions.record_attempt(run, f"files {window}", 2):
        return [], []
    policy = Policy(Mode.ARCHIVE, 1.0)
    try:
        index = services.archive_indexes.get(partition.series)
        found = assign_sources(partition, parts, index, policy, now_ms=now_ms(services.redis))
    except FleetError:
        # What is recorded is the cause: why REST did not answer.
        return [], []
    if not found.windows:
        return [], []
    text = f"{reason}; {_sources(found.windows)} instead"
    records = [Record.for_window(Level.REPORT, window, text)]
    records += [
        Record(Level.FAILED, reason, partition.series, span, str(window.source))
        for span in found.unavailable
    ]
    return found.windows, records


def _sources(windows: list[Window]) -> str:
    """Return in words where the windows come from."""
    return " and ".join(sorted({_IN_WORDS[window.source] for window in windows}))

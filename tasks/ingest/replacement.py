"""Replaces an archive file that cannot be used, and records it."""

from __future__ import annotations

from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.domain.series import Window
from klinefleet.workers.sources.choice import fallback
from klinefleet.workers.sources.policy import Policy


def replace_file(
    window: Window, key: str, reason: str, policy: Policy, *, is_refused: bool = False
) -> tuple[list[Window], list[Record]]:
    """Return the windows that answer in place of a file, and what the run has to record of it.

    `window` is the file's part of a window, `key` its key, `reason` why it is unusable. Without any
    replacement the window has failed.
    """
    replacements = fallback(window, policy, is_refused=is_refused)
    sources = " and ".join(sorted({str(other.source) for other in replacements})) or "nothing"
    text = f"{reason}; {sources} instead"
    records = [Record(Level.REPORT, text, window.partition.series, window.span, key)]
    if not replacements:
        records.append(Record.for_window(Level.FAILED, window, reason))
    return replacements, records

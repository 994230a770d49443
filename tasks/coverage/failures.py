"""What runs have noted of time that is not in the lake: what failed, when it is tried again, and
what is under way.

From Redis where one answers, and from the reports in the store, which outlive it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.report_file import REPORT, of_csv
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import Unreadable
from klinefleet.workers.domain.intervals import months_of
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.sources.choice import LATE_MS, NO_FILE
from klinefleet.workers.storage.objects import ObjectStore

logger = logging.getLogger(__name__)

#: Runs of which failures are looked up, the newest, in Redis and as many in the store.
NEWEST_RUNS = 50

#: How runs of version 0.1 said it; their reports are in the store for good.
_NO_FILE_BEFORE = "the archive has no file of it (yet); REST was not to be asked"

NEXT_DOWNLOAD = "with the next download that asks for it"


@dataclass(frozen=True, slots=True)
class Failure:
    """A part of a series' time that a run asked for in vain."""

    series: Series
    span: Span
    run: str
    reason: str

    @property
    def is_no_file(self) -> bool:
        """Whether only a file of the archive was missing."""
        return self.reason in (NO_FILE, _NO_FILE_BEFORE) or self.reason.startswith("NotPublished:")


@dataclass
class RunNotes:
    """What is known of runs."""

    failures: dict[Series, list[Failure]]
    """Newest first."""
    wanted: dict[Series, list[tuple[str, list[Span]]]]
    """What active runs have still to bring of a series, and which."""

    def of(self, series: Series, raw: Iterable[RawEntry], *, now_ms: int) -> list[MissingSpan]:
        """Return what is known of a series' time; of two holes that speak of the same time the
        first stands.
        """
        wanted = self.wanted.get(series, [])
        found = [
            hole
            for failure in self.failures.get(series, [])
            for hole in _holes(failure, wanted, now_ms)
        ]
        found += [
            MissingSpan(span, Reason.BEING_FETCHED, f"run {run} is at it")
            for run, parts in wanted
            for span in parts
        ]
        waits = "fetched, and not compacted yet"
        found += [
            MissingSpan(entry.span, Reason.BEING_FETCHED, waits, NEXT_DOWNLOAD) for entry in raw
        ]
        return found

    def times(self, series: Series) -> list[Span]:
        """Return all time of a series that some run has asked for in vain or has still to bring."""
        failed = (failure.span for failure in self.failures.get(series, []))
        return spans.union(
            [*failed, *(span for _, parts in self.wanted.get(series, []) for span in parts)]
        )


def load_run_notes(runs: Runs | None, files: ObjectStore) -> RunNotes:
    """Return what the newest runs have noted; without a Redis (`runs` is None) only what their
    reports tell.
    """
    failures: dict[Series, list[Failure]] = {}
    wanted: dict[Series, list[tuple[str, list[Span]]]] = {}
    told: dict[str, tuple[Iterable[Record], Request | None]] = {}
    for run in runs.recent(NEWEST_RUNS) if runs else []:
        progress = _progress(runs, run) if runs else None
        if runs and progress:
            told[run] = progress.records, progress.request
            if progress.state is State.RUNNING:
                for series, parts in _under_way(runs, run, progress.request).items():
                    wanted.setdefault(series, []).append((run, parts))
    told = _in_reports(files, told.keys()) | told
    # A run's name begins with the time it was made at.
    for run in sorted(told, reverse=True):
        for failure in failures_of(run, *told[run]):
            failures.setdefault(failure.series, []).append(failure)
    return RunNotes(failures, wanted)


def _progress(runs: Runs, run: str) -> Progress | None:
    try:
        return runs.progress(run)
    except Unreadable as error:
        logger.warning("%s", error)
        return None


def failures_of(run: str, records: Iterable[Record], request: Request | None) -> Iterator[Failure]:
    """Yield what a run says has failed: of a series' time, of a series, or all that was asked for.

    The last two say nothing where it is not known what was asked for.
    """
    for record in records:
        if record.level is not Level.FAILED:
            continue
        if record.series and record.span:
            yield Failure(record.series, record.span, run, record.text)
        elif request:
            several = [record.series] if record.series else request.series()
            yield from (Failure(series, request.span, run, record.text) for series in several)


def _holes(
    failure: Failure, wanted: list[tuple[str, list[Span]]], now_ms: int
) -> Iterator[MissingSpan]:
    """Yield what a failure left open, apart where another run is at it and where a file may yet be
    published.
    """
    told = f"run {failure.run}: {failure.reason}"
    for span, reason in _of_months(failure, now_ms):
        left = [span]
        for run, parts in wanted:
            if run != failure.run:
                yield from (
                    MissingSpan(part, reason, told, f"run {run} is at it")
                    for part in spans.both(left, parts)
                )
                left = spans.without(left, parts)
        again = NEXT_DOWNLOAD
        if reason is Reason.NOT_PUBLISHED:
            again += ", once it is published or where REST may be asked"
        yield from (MissingSpan(part, reason, told, again) for part in left)


def _of_months(failure: Failure, now_ms: int) -> Iterator[tuple[Span, Reason]]:
    if not failure.is_no_file:
        yield failure.span, Reason.FAILED
        return
    for _, month in months_of(failure.span):
        is_late = now_ms - month.end_ms < LATE_MS
        yield month.clip(failure.span), Reason.NOT_PUBLISHED if is_late else Reason.FAILED


def _under_way(runs: Runs, run: str, request: Request) -> dict[Series, list[Span]]:
    """Return what an active run has still to bring: blocks under way or waited for, and all behind
    its cursor.
    """
    index, from_ms = runs.cursor(run)
    found = {
        series: [Span(max(from_ms if n == 0 else 0, request.start_ms), request.end_ms)]
        for n, series in enumerate(request.series(first=index))
    }
    for block in [*runs.blocks.states(run), *runs.blocks.deferred(run)]:
        found.setdefault(block.series, []).append(block.span.clip(request.span))
    return {series: spans.union(parts) for series, parts in found.items()}


def _in_reports(
    files: ObjectStore, known: Collection[str]
) -> dict[str, tuple[Iterable[Record], Request | None]]:
    """Return what the newest reports in the store tell, those of `known` runs left out."""
    listed = (entry.key for entry in files.list(keys.reports()))
    runs = (keys.run_of(key) for key in listed if key.endswith(f"/{REPORT}"))
    newest = sorted((run for run in runs if run and run not in known), reverse=True)[:NEWEST_RUNS]
    return {run: _report(files.read(keys.report(run, REPORT)) or b"") for run in newest}


def _report(body: bytes) -> tuple[Iterable[Record], Request | None]:
    records, told = of_csv(body)
    try:
        return records, Request.from_json(told) if told else None
    except (ValueError, KeyError, TypeError):
        return records, None

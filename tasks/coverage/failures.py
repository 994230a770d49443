"""What runs know of missing time: failures, and the time that active runs still have to fetch.

It is read from Redis if one answers, and from the reports in the store, which outlive it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from klinefleet.tasks.coverage.holes import MissingSpan, Reason
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.records import NO_REPORT, Level, Record
from klinefleet.tasks.runs.report_file import REPORT_FILE, parse_csv
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import Unreadable
from klinefleet.workers.domain.intervals import months_of
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.sources.choice import LATE_MS, NO_FILE, NO_FILE_NO_SYMBOL
from klinefleet.workers.storage.objects import ObjectStore

logger = logging.getLogger(__name__)

#: The newest runs whose failures are looked up: as many in Redis, and as many in the store.
NEWEST_RUNS = 50

#: The next step of time that no active run fetches: nothing is retried by the clock.
NEXT_DOWNLOAD = "run the download again"

#: The text of `NO_FILE` in version 0.1, whose reports stay in the store.
_OLD_NO_FILE = "the archive has no file of it (yet); REST was not to be asked"

#: A run's records, and its request; None if the request is unknown.
_RunRecords = tuple[Iterable[Record], Request | None]


@dataclass(frozen=True, slots=True)
class Failure:
    """A part of a series' time that a run tried to fetch and could not."""

    series: Series
    span: Span
    run: str
    reason: str

    @property
    def is_missing_file(self) -> bool:
        """True if the only reason is that the archive had no file."""
        is_no_file = self.reason in (NO_FILE, NO_FILE_NO_SYMBOL, _OLD_NO_FILE)
        return is_no_file or self.reason.startswith("NotPublished:")


@dataclass(frozen=True, slots=True)
class PendingSpans:
    """The parts of a series' time that an active run still has to fetch or compact."""

    run: str
    spans: list[Span]


@dataclass
class RunNotes:
    """What the newest runs know of missing time."""

    failures: dict[Series, list[Failure]]
    """Newest first."""
    pending: dict[Series, list[PendingSpans]]

    def missing_spans(
        self, series: Series, raw: Iterable[RawEntry], *, now_ms: int
    ) -> list[MissingSpan]:
        """Return what runs know of a series' time; where two overlap, the first counts.

        `raw` are its raw objects: they are fetched, but not compacted.
        """
        pending = self.pending.get(series, [])
        found = [
            missing
            for failure in self.failures.get(series, [])
            for missing in _failure_spans(failure, pending, now_ms)
        ]
        found += [
            MissingSpan(span, Reason.BEING_FETCHED, _fetching(work.run))
            for work in pending
            for span in work.spans
        ]
        found += [
            MissingSpan(
                entry.span, Reason.BEING_FETCHED, "fetched, not compacted yet", NEXT_DOWNLOAD
            )
            for entry in raw
        ]
        return found

    def requested_spans(self, series: Series) -> list[Span]:
        """Return the time of a series in which runs failed, or which they still have to fetch."""
        failed = [failure.span for failure in self.failures.get(series, [])]
        pending = [span for work in self.pending.get(series, []) for span in work.spans]
        return spans.union([*failed, *pending])


def load_run_notes(runs: Runs | None, store: ObjectStore) -> RunNotes:
    """Return what the newest runs know; without a Redis (`runs` is None) what their reports say."""
    known, cut = dict[str, _RunRecords](), dict[str, _RunRecords]()
    pending: dict[Series, list[PendingSpans]] = {}
    for run in runs.recent(NEWEST_RUNS) if runs else []:
        progress = _load_progress(runs, run) if runs else None
        if runs and progress:
            (known if progress.is_whole else cut)[run] = progress.records, progress.request
            if progress.state is State.RUNNING:
                for series, parts in _pending_spans(runs, run, progress.request).items():
                    pending.setdefault(series, []).append(PendingSpans(run, parts))
    # What has left Redis is in the report, if there was anything to report.
    known = cut | _load_reports(store, known.keys()) | known
    failures: dict[Series, list[Failure]] = {}
    # A run's name begins with the time at which it was made.
    for run in sorted(known, reverse=True):
        for failure in failures_of(run, *known[run]):
            failures.setdefault(failure.series, []).append(failure)
    return RunNotes(failures, pending)


def failures_of(run: str, records: Iterable[Record], request: Request | None) -> Iterator[Failure]:
    """Yield the failures among a run's records.

    A record without a span means the whole request, one without a series all series of it. Without
    a `request` nothing is known of these.
    """
    for record in records:
        if record.level is not Level.FAILED or record.source == NO_REPORT.source:
            continue
        if record.series and record.span:
            yield Failure(record.series, record.span, run, record.text)
        elif request:
            several = [record.series] if record.series else request.series()
            yield from (Failure(series, request.span, run, record.text) for series in several)


def _failure_spans(
    failure: Failure, pending: list[PendingSpans], now_ms: int
) -> Iterator[MissingSpan]:
    """Yield a failure's time: that which another run fetches, and the rest."""
    detail = f"run {failure.run}: {failure.reason}"
    for span, reason in _months_with_reason(failure, now_ms):
        rest = [span]
        for work in pending:
            if work.run != failure.run:
                for part in spans.both(rest, work.spans):
                    yield MissingSpan(part, reason, detail, _fetching(work.run))
                rest = spans.without(rest, work.spans)
        next_step = NEXT_DOWNLOAD
        if reason is Reason.NOT_PUBLISHED:
            next_step += " once the file is published, or with REST allowed"
        yield from (MissingSpan(part, reason, detail, next_step) for part in rest)


def _months_with_reason(failure: Failure, now_ms: int) -> Iterator[tuple[Span, Reason]]:
    """Yield a failure's time, by month where a file may still be published."""
    if not failure.is_missing_file:
        yield failure.span, Reason.FAILED
        return
    for _, month in months_of(failure.span):
        may_be_published = now_ms - month.end_ms < LATE_MS
        reason = Reason.NOT_PUBLISHED if may_be_published else Reason.FAILED
        yield month.clip(failure.span), reason


def _fetching(run: str) -> str:
    return f"run {run} is fetching it"


def _load_progress(runs: Runs, run: str) -> Progress | None:
    try:
        return runs.progress(run)
    except Unreadable as error:
        logger.warning("%s", error)
        return None


def _pending_spans(runs: Runs, run: str, request: Request) -> dict[Series, list[Span]]:
    """Return what an active run has still to fetch: behind its cursor, and open partitions."""
    index, from_ms = runs.cursor(run)
    found = {
        series: [Span(max(from_ms if n == 0 else 0, request.start_ms), request.end_ms)]
        for n, series in enumerate(request.series(first=index))
    }
    for partition in [*runs.partitions.states(run), *runs.partitions.deferred(run)]:
        found.setdefault(partition.series, []).append(partition.span.clip(request.span))
    return {series: spans.union(parts) for series, parts in found.items()}


def _load_reports(store: ObjectStore, known: Collection[str]) -> dict[str, _RunRecords]:
    """Return the newest reports in the store by run, without those of `known` runs."""
    listed = (entry.key for entry in store.list(keys.reports()))
    runs = (keys.run_of(key) for key in listed if key.endswith(f"/{REPORT_FILE}"))
    newest = sorted((run for run in runs if run and run not in known), reverse=True)[:NEWEST_RUNS]
    return {run: _parse_report(store.read(keys.report(run, REPORT_FILE)) or b"") for run in newest}


def _parse_report(body: bytes) -> _RunRecords:
    records, request = parse_csv(body)
    try:
        return records, Request.from_json(request) if request else None
    except (ValueError, KeyError, TypeError):
        return records, None

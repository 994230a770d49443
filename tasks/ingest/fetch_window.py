"""Fetches one window: downloads it, checks it, keeps it as raw objects, records it as fetched."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from klinefleet.tasks.ingest.archive_window import download_file
from klinefleet.tasks.ingest.attempts import WindowCounts, archive_may_recover, pause_or_stop
from klinefleet.tasks.ingest.replacement import replace_file, replace_pages
from klinefleet.tasks.ingest.rest_window import fetch_page, final_until_ms
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.poison import all_foreseen, may_fail_again
from klinefleet.tasks.runs.policy import policy_for_run
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain.errors import (
    Firewalled,
    FleetError,
    LeaseLost,
    OverWeight,
    Restricted,
    Unreachable,
)
from klinefleet.workers.domain.paging import page_count, pages
from klinefleet.workers.domain.queues import queue_of
from klinefleet.workers.domain.redis_keys import fetch_lease
from klinefleet.workers.domain.series import Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import files_of
from klinefleet.workers.sources.memory_needs import bytes_to_download
from klinefleet.workers.sources.policy import Mode, Policy
from klinefleet.workers.support import metrics
from klinefleet.workers.support.retry import ARCHIVE_FILE

if TYPE_CHECKING:
    from klinefleet.workers.binance.archive_names import ArchiveFile

logger = logging.getLogger(__name__)


def fetch_window(services: Services, run: str, window: Window) -> str:
    """Fetch and keep a window; return why it failed for good, or ''.

    Nothing is done if another worker has the window's lease, or the run no longer waits for it.
    A failure is recorded in the run. OverWeight where a ban or the budget would hold the window for
    too long; StoreFault or Unforeseen where a later try may succeed.
    """
    runs = Runs(services.redis)
    with services.leases.hold(fetch_lease(window)) as lease:
        if lease is None or not runs.partitions.is_pending(run, window):
            return ""
        try:
            return _WindowFetch(services, runs, run, window, lease).work()
        except LeaseLost as error:
            logger.warning("fetch %s: %s", window, error)
            return ""


class _WindowFetch:
    """One window, fetched under one lease."""

    def __init__(
        self, services: Services, runs: Runs, run: str, window: Window, lease: Lease
    ) -> None:
        self._services = services
        self._runs = runs
        self._run = run
        self._window = window
        self._lease = lease
        self._records: list[Record] = []
        self._counts = WindowCounts()

    def work(self) -> str:
        """Fetch the window and record it; return why it failed for good, or ''."""
        window, counts = self._window, self._counts
        reason, replacements = "", list[Window]()
        counts.add(calls_done=page_count(window.partition.series, window.span))
        try:
            with all_foreseen(f"fetch {window}"):
                self._services.store.require_writable()  # or weight is spent for nothing
                if window.source.is_archive:
                    replacements = self._keep_files()
                else:
                    self._keep_pages()
            counts.add(windows_done=1)
        except (OverWeight, LeaseLost):
            raise
        except FleetError as error:
            if may_fail_again(self._runs, self._run, str(self._window), error):
                raise
            replacements = self._replace_pages(error)
            if not replacements:
                reason = error.reason
                logger.error("fetch %s failed: %s", window, reason)
                counts.add(windows_failed=1)
                self._records.append(Record.for_window(Level.FAILED, window, reason))
        self._lease.check()
        finished = self._runs.partitions.finish_window(
            self._run, window, counts.counts, records=self._records, replacements=replacements
        )
        if finished.is_counted:
            logger.debug("fetched %s: %s", window, dict(counts.counts))
            metrics.WINDOWS.add(queue=queue_of(window), outcome="failed" if reason else "done")
            enqueue.send_fetch(self._run, replacements, finished.sent_us)
        if finished.is_last:
            enqueue.send_compact(self._run, window.partition, finished.sent_us)
        return reason

    def _replace_pages(self, error: FleetError) -> list[Window]:
        """Return the archive windows that replace REST's, where REST does not answer at all.

        Where it serves no call from here, the whole run goes on with the archive.
        """
        window = self._window
        is_away = isinstance(error, Restricted | Unreachable)
        if window.source.is_archive or not is_away:
            return []
        policy = policy_for_run(self._services, self._run, window.partition.series)
        if policy.mode is not Mode.AUTO:
            return []
        if isinstance(error, Restricted):
            self._runs.mark_rest_away(self._run, error)
        replacements, records = replace_pages(self._services, self._run, window, error.reason)
        self._records += records
        return replacements

    def _keep_files(self) -> list[Window]:
        """Store the window's archive files; return the windows that replace unusable ones."""
        files = files_of(self._window)
        faults = self._services.page_threads.map_all(lambda file: self._keep_file(*file), files)
        unusable = [
            (file, span, fault) for (file, span), fault in zip(files, faults, strict=True) if fault
        ]
        if not unusable:
            return []
        policy = policy_for_run(self._services, self._run, self._window.partition.series)
        replacements = list[Window]()
        for file, span, fault in unusable:
            replacements += self._replace(file, span, fault, policy)
        return replacements

    def _replace(
        self, file: ArchiveFile, span: Span, fault: FleetError, policy: Policy
    ) -> list[Window]:
        """Return the windows that replace an unusable file, and record the file."""
        window = Window(self._window.partition, span, self._window.source)
        is_refused = isinstance(fault, Firewalled | Restricted)
        replacements, records = replace_file(
            window, file.key, fault.reason, policy, is_refused=is_refused
        )
        self._records += records
        return replacements

    def _keep_file(self, file: ArchiveFile, span: Span) -> FleetError | None:
        """Store one archive file; return why it is unusable, or None."""
        sleep = partial(pause_or_stop, self._services, str(file.key))
        tries = ARCHIVE_FILE.retrying(archive_may_recover, sleep=sleep)
        with self._services.memory_slots.reserved(bytes_to_download(file), f"fetch {file.key}"):
            try:
                downloaded = tries(download_file, self._services, file, self._counts)
            except OverWeight:
                raise
            except FleetError as error:
                return error
            self._lease.check()
            self._services.raw_zone.store_file(
                self._window.partition,
                span,
                downloaded.body,
                file.source,
                downloaded.etag,
                asked_ms=downloaded.asked_ms,
            )
        self._counts.add(files=1, bytes=len(downloaded.body))
        return None

    def _keep_pages(self) -> None:
        """Store the window's REST pages as one raw object, as far as their candles are final."""
        services, window = self._services, self._window
        series, calls = window.partition.series, list(pages(window.partition.series, window.span))
        fetch = partial(fetch_page, services, series, self._counts)
        with services.rest_slots.queued(sum(page.weight for page in calls)):
            fetched = services.page_threads.map_all(fetch, calls)
        covered = Span(window.span.start_ms, final_until_ms(fetched))
        if not covered.is_empty:
            bodies = [one.body for one in fetched if one.page.span.start_ms < covered.end_ms]
            self._lease.check()
            asked_ms = min(one.asked_ms for one in fetched)
            services.raw_zone.store(window.partition, covered, bodies, asked_ms=asked_ms)
        rows = sum(one.facts.rows for one in fetched)
        metrics.ROWS_FETCHED.add(rows, market=series.market, source=str(window.source))
        self._counts.add(klines=rows, bytes=sum(len(one.body) for one in fetched))

"""Fetches one window: download, check, keep as a raw object, count as in."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.policy import policy_of
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain.errors import (
    Firewalled,
    FleetError,
    LeaseLost,
    OverWeight,
    Restricted,
    StoreFault,
)
from klinefleet.workers.domain.paging import page_count, pages
from klinefleet.workers.domain.queues import queue_of
from klinefleet.workers.domain.redis_keys import fetch_lease
from klinefleet.workers.domain.series import Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import fallback, files_of
from klinefleet.workers.support import metrics
from klinefleet.workers.support.retry import ARCHIVE_FILE

if TYPE_CHECKING:
    from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.tasks.ingest.archive_window import download_file
from klinefleet.tasks.ingest.attempts import Tally, archive_may_recover, pause_or_stop
from klinefleet.tasks.ingest.rest_window import fetch_page, final_until

logger = logging.getLogger(__name__)


#: Times a window may be handed back to the queue because the store failed, before it counts as
#: failed.
HAND_BACKS = 5


def fetch_window(services: Services, run: str, window: Window) -> str:
    """Fetch and keep a window, and count it as in; returns why it failed for good, which is noted,
    or ''.

    Does nothing where another is at it, or nobody waits for it any more. OverWeight where a ban or
    the budget would hold it for too long, StoreFault where the store may answer at a later try.
    """
    runs = Runs(services.redis)
    with services.leases.hold(fetch_lease(window)) as lease:
        if lease is None or not runs.blocks.is_pending(run, window):
            return ""
        try:
            return WindowFetch(services, runs, run, window, lease).work()
        except LeaseLost as error:
            logger.warning("fetch %s: %s", window, error)
            return ""


class WindowFetch:
    """One window, fetched by one lease."""

    def __init__(
        self, services: Services, runs: Runs, run: str, window: Window, lease: Lease
    ) -> None:
        self._services, self._runs, self._run, self._window, self._lease = (
            services,
            runs,
            run,
            window,
            lease,
        )
        self._records: list[Record] = []
        self._tally = Tally()

    def work(self) -> str:
        """Keep the window and say so; returns why it failed for good, or ''."""
        window, tally = self._window, self._tally
        failed, instead = "", list[Window]()
        tally.add(calls_done=page_count(window.block.series, window.span))
        try:
            if window.source.is_archive:
                instead = self._keep_files()
            else:
                self._keep_pages()
            tally.add(windows_done=1)
        except (OverWeight, LeaseLost):
            raise
        except FleetError as error:
            if isinstance(error, StoreFault) and self._runs.blocks.record_attempt(
                self._run, str(window), HAND_BACKS
            ):
                raise
            failed = error.reason
            logger.error("fetch %s failed: %s", window, failed)
            tally.add(windows_failed=1)
            self._records.append(Record.of_window(Level.FAILED, window, failed))
        self._lease.check()
        told = self._runs.blocks.finish(
            self._run, window, tally.counts, records=self._records, instead=instead
        )
        if told.is_counted:
            logger.debug("fetched %s: %s", window, dict(tally.counts))
            metrics.WINDOWS.add(queue=queue_of(window), outcome="failed" if failed else "done")
            enqueue.send_fetch(self._run, instead, told.sent_us)
        if told.is_last:
            enqueue.send_compact(self._run, window.block, told.sent_us)
        return failed

    def _keep_files(self) -> list[Window]:
        """Store the window's files; returns the windows that answer for those that cannot be used."""
        services, window = self._services, self._window
        wanted = files_of(window)
        faults = services.page_threads.each(lambda of: self._keep_file(of[0], of[1]), wanted)
        unfit = [
            (file, span, fault) for (file, span), fault in zip(wanted, faults, strict=True) if fault
        ]
        if not unfit:
            return []
        policy = policy_of(services, self._run, window.block.series)
        instead = list[Window]()
        for file, span, fault in unfit:
            part = Window(window.block, span, window.source)
            others = fallback(part, policy, is_refused=isinstance(fault, Firewalled | Restricted))
            by = " and ".join(sorted({str(other.source) for other in others})) or "nothing"
            told = f"{fault.reason}; {by} instead"
            self._records.append(Record(Level.REPORT, told, window.block.series, span, file.key))
            if not others:
                self._records.append(Record.of_window(Level.FAILED, part, fault.reason))
            instead += others
        return instead

    def _keep_file(self, file: ArchiveFile, span: Span) -> FleetError | None:
        """Store one file; returns why it cannot be used, None where it can."""
        services = self._services
        sleep = partial(pause_or_stop, services, str(file.key))
        retrying = ARCHIVE_FILE.retrying(archive_may_recover, sleep=sleep)
        try:
            got = retrying(download_file, services, file, self._tally)
        except OverWeight:
            raise
        except FleetError as error:
            return error
        self._lease.check()
        services.raw_zone.store_file(self._window.block, span, got.body, file.source, got.etag)
        self._tally.add(files=1, bytes=len(got.body))
        return None

    def _keep_pages(self) -> None:
        """Store the window's pages as one raw object; where the present cuts it, as long as its
        candles are final.
        """
        services, window, tally = self._services, self._window, self._tally
        series, calls = window.block.series, list(pages(window.block.series, window.span))
        with services.rest_slots.queued(sum(page.weight for page in calls)):
            got = services.page_threads.each(
                lambda page: fetch_page(services, series, page, tally), calls
            )
        covered = Span(window.span.start_ms, final_until(calls, got))
        if not covered.is_empty:
            bodies = [
                body
                for (body, _), page in zip(got, calls, strict=True)
                if page.span.start_ms < covered.end_ms
            ]
            self._lease.check()
            services.raw_zone.store(window.block, covered, bodies)
        rows = sum(facts.rows for _, facts in got)
        metrics.ROWS_FETCHED.add(rows, market=series.market, source=window.source)
        tally.add(klines=rows, bytes=sum(len(body) for body, _ in got))

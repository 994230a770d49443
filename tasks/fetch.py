"""klines.fetch: weight → GET → check → raw object. The bytes are checked and kept as they came, not parsed.

A window of the archive is files instead of pages: no weight, but each held against its CHECKSUM. What cannot be used
is answered for by daily files or by REST, and reported.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject
from redis import RedisError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from tasks import messages
from tasks.context import about
from tasks.runs.keys import fetch_lease
from tasks.runs.lost import HANDED_BACK_US
from tasks.runs.policy import policy_of
from tasks.runs.records import Level, Record
from tasks.runs.store import Runs
from workers import metrics
from workers.app import app
from workers.binance.markets import Page, page_count, pages
from workers.binance.pages import PageFacts, inspect
from workers.errors import (
    ChecksumMismatch,
    Failed,
    Firewalled,
    FleetError,
    LeaseLost,
    Limited,
    NotPublished,
    OverWeight,
    Refused,
    Restricted,
    SettingsError,
    StoreFault,
    Transient,
)
from workers.heart import Lease
from workers.limits.patience import LONGEST_S
from workers.model import Block, Series, Source, Span, Window
from workers.queues import queue_of
from workers.sources import fallback, files_of
from workers.toolbox import Toolbox

if TYPE_CHECKING:
    from workers.binance.archive import Downloaded
    from workers.binance.archive_files import ArchiveFile

logger = logging.getLogger(__name__)

#: Tries of one file of the archive; another source answers for its time, so it is given up sooner than a page.
FILE_TRIES = 3
#: Tries of one page for errors that may pass; 429 and 418 are waited out and cost none.
TRIES, LONGEST_PAUSE_S = 6, 10.0
#: Times a window may be handed back to the queue because the store failed, before it counts as failed.
HAND_BACKS = 5
#: Refusals that name our own parameters (-1121 unknown symbol and the like): asking again gives the same.
_OUR_FAULT = range(-1199, -1099)


@app.task(name="klines.fetch", bind=True, throws=(Failed,))  # type: ignore[untyped-decorator]
def fetch(self: Any, run: str, block: str, start_ms: int, end_ms: int, source: str = Source.REST, *_: Any) -> None:
    """Fetch one window of a block; handed back to the queue where Redis fails or a ban is long.

    What a later version tells besides is passed over.
    """
    tools: Toolbox = self.app.toolbox
    window = Window(Block.parse(block), Span(start_ms, end_ms), Source(source))
    about(run, window)
    try:
        failed = fetch_window(tools, run, window)
    except (RedisError, OverWeight, StoreFault) as error:
        logger.warning("fetch %s: handed back: %s", window, error)
        tools.stop.wait(1.0)
        with suppress(RedisError):  # then it may be sent a second time, which changes nothing
            Runs(tools.redis).sent(run, [window], later_us=HANDED_BACK_US)
        raise Reject(error, requeue=True) from error
    if failed:
        raise Failed(failed)


def fetch_window(tools: Toolbox, run: str, window: Window) -> str:
    """Fetch and keep a window, and count it as in; returns why it failed for good, which is noted, or ''.

    Does nothing where another is at it, or nobody waits for it any more. OverWeight where a ban or the budget would
    hold it for too long, StoreFault where the store may answer at a later try.
    """
    runs = Runs(tools.redis)
    with tools.heart.lease(fetch_lease(window)) as lease:
        if lease is None or not runs.wants(run, window):
            return ""
        try:
            return _Fetch(tools, runs, run, window, lease).work()
        except LeaseLost as error:
            logger.warning("fetch %s: %s", window, error)
            return ""


class _Fetch:
    """One window, fetched by one lease."""

    def __init__(self, tools: Toolbox, runs: Runs, run: str, window: Window, lease: Lease) -> None:
        self._tools, self._runs, self._run, self._window, self._lease = tools, runs, run, window, lease
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
            if isinstance(error, StoreFault) and self._runs.try_again(self._run, str(window), HAND_BACKS):
                raise
            failed = error.reason
            logger.error("fetch %s failed: %s", window, failed)
            tally.add(windows_failed=1)
            self._records.append(Record.of_window(Level.FAILED, window, failed))
        self._lease.check()
        told = self._runs.finish(self._run, window, tally.counts, records=self._records, instead=instead)
        if told.is_counted:
            logger.debug("fetched %s: %s", window, dict(tally.counts))
            metrics.WINDOWS.add(queue=queue_of(window), outcome="failed" if failed else "done")
            messages.send_fetch(self._run, instead, told.sent_us)
        if told.is_last:
            messages.send_compact(self._run, window.block, told.sent_us)
        return failed

    def _keep_files(self) -> list[Window]:
        """Store the window's files; returns the windows that answer for those that cannot be used."""
        tools, window = self._tools, self._window
        wanted = files_of(window)
        faults = tools.pages.each(lambda of: self._keep_file(of[0], of[1]), wanted)
        unfit = [(file, span, fault) for (file, span), fault in zip(wanted, faults, strict=True) if fault]
        if not unfit:
            return []
        policy = policy_of(tools, self._run, window.block.series)
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
        tools = self._tools
        tries = Retrying(
            retry=retry_if_exception(_may_be_mended),
            wait=wait_random_exponential(multiplier=0.25, max=LONGEST_PAUSE_S),
            stop=stop_after_attempt(FILE_TRIES),
            sleep=partial(_pause, tools, str(file.key)),
            reraise=True,
        )
        try:
            got = tries(_download, tools, file, self._tally)
        except OverWeight:
            raise
        except FleetError as error:
            return error
        self._lease.check()
        tools.raw.store_file(self._window.block, span, got.body, file.source, got.etag)
        self._tally.add(files=1, bytes=len(got.body))
        return None

    def _keep_pages(self) -> None:
        """Store the window's pages as one raw object; where the present cuts it, as long as its candles are final."""
        tools, window, tally = self._tools, self._window, self._tally
        series, calls = window.block.series, list(pages(window.block.series, window.span))
        with tools.slots.queued(sum(page.weight for page in calls)):
            got = tools.pages.each(lambda page: _page(tools, series, page, tally), calls)
        covered = Span(window.span.start_ms, _final_until(calls, got))
        if not covered.is_empty:
            bodies = [body for (body, _), page in zip(got, calls, strict=True) if page.span.start_ms < covered.end_ms]
            self._lease.check()
            tools.raw.store(window.block, covered, bodies)
        rows = sum(facts.rows for _, facts in got)
        metrics.ROWS_FETCHED.add(rows, market=series.market, source=window.source)
        tally.add(klines=rows, bytes=sum(len(body) for body, _ in got))


def _download(tools: Toolbox, file: ArchiveFile, tally: Tally) -> Downloaded:
    with tools.gate:
        try:
            got = tools.archive.download(file)
        except NotPublished:
            raise
        except FleetError as error:
            tally.failed(error, "archive")
            tools.gate.failed()
            raise
    tools.gate.answered(rtt_ms=got.rtt_ms)
    return got


def _final_until(calls: list[Page], got: list[tuple[bytes, PageFacts]]) -> int:
    for page, (_, facts) in zip(calls, got, strict=True):
        if facts.end_ms < page.span.end_ms:
            return facts.end_ms
    return calls[-1].span.end_ms


def _page(tools: Toolbox, series: Series, page: Page, tally: Tally) -> tuple[bytes, PageFacts]:
    """Return a page's checked bytes, after as many tries as its errors deserve."""

    waits = Retrying(
        retry=retry_if_exception(_is_wait), stop=stop_after_delay(LONGEST_S), retry_error_callback=_give_up
    )
    tries = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_random_exponential(multiplier=0.25, max=LONGEST_PAUSE_S),
        stop=stop_after_attempt(TRIES),
        sleep=partial(_pause, tools, f"{series} {page.span}"),
        reraise=True,
    )
    got: tuple[bytes, PageFacts] = tries(waits, _call, tools, series, page, tally)
    return _halves(tools, series, page, tally) if got[1].is_full else got


def _halves(tools: Toolbox, series: Series, page: Page, tally: Tally) -> tuple[bytes, PageFacts]:
    """Return a page of events asked for in halves: the whole had more than one answer takes."""
    middle_ms = (page.span.start_ms + page.span.end_ms) // 2
    cut = Span(page.span.start_ms, middle_ms), Span(middle_ms, page.span.end_ms)
    (left, in_left), (right, in_right) = (_page(tools, series, replace(page, span=span), tally) for span in cut)
    end_ms = in_right.end_ms if in_left.end_ms == middle_ms else in_left.end_ms
    # The raw zone keeps a page a line.
    return left + b"\n" + right, PageFacts(in_left.rows + in_right.rows, end_ms)


def _call(tools: Toolbox, series: Series, page: Page, tally: Tally) -> tuple[bytes, PageFacts]:
    tally.add(calls=1, weight=page.weight)
    with tools.slots:
        try:
            answer = tools.client(series.market).rows(series, page)
            facts = inspect(answer.body, page, series, answer.server_ms)
        except FleetError as error:
            tally.failed(error, "rest")
            tools.slots.failed()
            raise
    grant = answer.grant
    tools.slots.answered(rtt_ms=answer.rtt_ms, weight=page.weight, left=grant.left, minute_left_ms=grant.minute_left_ms)
    tally.add(waited_ms=int(answer.waited_s * 1000))
    return answer.body, facts


def _pause(tools: Toolbox, what: str, seconds: float) -> None:
    if tools.stop.wait(seconds):
        raise OverWeight(f"{what}: this worker was told to stop; nothing was kept")


class Tally:
    """Counts of one window, added to by its pages' threads."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self._lock = threading.Lock()

    def add(self, **amounts: int) -> None:
        with self._lock:
            self.counts.update(amounts)

    def failed(self, error: FleetError, source: str) -> None:
        """Count a try that failed."""
        self.add(retries=1)
        metrics.RETRIES.add(source=source, reason=type(error).__name__)


def _is_wait(error: BaseException) -> bool:
    """Whether the exchange told us to wait; the next try waits in the budget, for all of us at once."""
    return isinstance(error, Limited) and not isinstance(error, OverWeight)


def _give_up(state: RetryCallState) -> Any:
    error = state.outcome.exception() if state.outcome else None
    raise OverWeight(f"the exchange kept telling us to wait: {error}") from error


def _may_be_mended(error: BaseException) -> bool:
    """Whether the archive may answer otherwise in a moment: a file being replaced does not fit its CHECKSUM."""
    return isinstance(error, Transient | ChecksumMismatch)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, Refused):
        return error.code not in _OUR_FAULT
    if isinstance(error, SettingsError):
        return False
    return isinstance(error, FleetError) and not isinstance(error, Limited)

"""One run, led for a turn: its blocks are issued piece by piece as others finish, and its end is
told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from klinefleet.tasks.planning.dispatch import Dispatch
from klinefleet.tasks.planning.ending import Ending
from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.planning.led import DEFAULT_LIMITS, TRIES, LedRun, PlannerLimits
from klinefleet.tasks.planning.recovery import Recovery
from klinefleet.tasks.runs.progress import Phase, State
from klinefleet.tasks.runs.report_file import keep_report
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain.errors import FleetError, MustWait, TaskFailed, Transient, Unreadable
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.series import Block
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)

#: Times that a run is handed back whose request this version cannot read, two seconds apart.
UNREADABLE_TRIES = 30
#: How long the planner listens for what has happened to its run, seconds.
LISTEN_S = 0.25


def planner_of(
    services: Services, run: str, lease: Lease, *, limits: PlannerLimits = DEFAULT_LIMITS
) -> Planner | None:
    """Return the run's planner, which leads it from now on; None where the run has ended or is not
    known.

    LeaseLost where another leads it by now; Unreadable, and some time later TaskFailed, where a
    later version made it.
    """
    everybodys = Runs(services.redis)
    try:
        request = everybodys.request(run)
    except Unreadable as error:
        # Workers of that version may be there too: they find it when it is handed back.
        if everybodys.blocks.record_attempt(run, "request", UNREADABLE_TRIES):
            raise
        raise TaskFailed(error.reason) from error
    if request is None:
        # Redis has lost it: what is left of its state goes.
        everybodys.end(run, State.CANCELLED)
        return None
    runs = everybodys.lead(run, lease.fence)
    return Planner(LedRun(services, run, request, runs, limits)) if runs else None


class Planner:
    """Leads one run: issues its blocks, sends lost work again, and says how it has ended."""

    def __init__(self, led: LedRun) -> None:
        self._led = led
        self.runs = led.runs
        """The run's moves, with this planner's fencing number."""
        self._run, self._runs, self._request = led.run, led.runs, led.request
        self._holdings = Holdings(led.services, led.request)
        self._dispatch = Dispatch(led)
        self._recovery = Recovery(led)
        self._ending = Ending(led, self._dispatch)

    def lead(self, seconds: float) -> bool:
        """Lead for at most `seconds`; returns whether the run goes on."""
        ends = time.monotonic() + seconds
        self._know_listings()
        blocks, is_all_issued = self._wanted(), False
        while not self._led.services.stop.is_set() and time.monotonic() < ends:
            if self._runs.state(self._run) is not State.RUNNING:
                return False
            is_all_issued = is_all_issued or self._issue(blocks)
            if is_all_issued and self._is_over():
                return False
            self._runs.wait(self._run, LISTEN_S)
            self._recovery.send_lost_again()
        return True

    def _know_listings(self) -> None:
        """Have the market's symbols known, and as fresh as the exchange tells them.

        TaskFailed where it does not tell them time and again, and nobody has been told before.
        """
        symbol_cache, market = self._led.services.symbol_cache, self._request.market
        try:
            symbol_cache.refresh(market)
        except FleetError as error:
            if symbol_cache.are_loaded(market):
                logger.warning(
                    "plan %s: the symbols of %s are not the newest: %s",
                    self._run,
                    market,
                    error.reason,
                )
                return
            may_pass = isinstance(error, Transient) and self._runs.blocks.record_attempt(
                self._run, "listings", TRIES
            )
            if isinstance(error, MustWait) or may_pass:
                raise
            raise TaskFailed(f"the exchange does not tell its symbols: {error.reason}") from error

    def _issue(self, blocks: Iterator[tuple[Block, Span, SeriesHoldings]]) -> bool:
        """Put blocks under way while there is room; returns whether there are no more."""
        while self._has_room():
            wanted = next(blocks, None)
            if wanted is None:
                return True
            block, span, held = wanted
            if self._runs.blocks.claim(self._run, block):
                if self._runs.blocks.compacted_ms(block) >= held.read_ms:
                    held.read()
                self._dispatch.put_under_way(block, span, held)
        return False

    def _has_room(self) -> bool:
        """Return whether more may be issued: workers that fetch faster than they compact wait for
        themselves.
        """
        windows, blocks = self._runs.blocks.in_flight(self._run)
        limits = self._led.limits
        return windows < limits.windows_in_flight and blocks < limits.blocks_under_way

    def _wanted(self) -> Iterator[tuple[Block, Span, SeriesHoldings]]:
        """Yield the blocks from the run's cursor on, each with the time wanted of it; moves the
        cursor behind each.
        """
        request = self._request
        index, from_ms = self._runs.cursor(self._run)
        calls_of_one = request.calls_of_one()
        for series in request.series(first=index):
            after = calls_of_one * (len(request.symbols) - index - 1)
            held, newest, whole = self._led.held(self._holdings, series), None, 0
            if held is None:
                index, from_ms = index + 1, 0
                self._runs.advance(self._run, index, 0, after)
                continue
            if self._led.has_to_ask(held):
                # Its first candle has to be asked for. Meanwhile its newest block is fetched: that
                # one exists.
                newest = series.block(request.end_ms - 1)
                yield newest, newest.span.clip(request.span), held
            span = self._led.wanted(held)
            for block in series.blocks(Span(max(span.start_ms, from_ms), span.end_ms)):
                wanted = block.span.clip(span)
                if not request.revise and held.is_whole(block, wanted):
                    whole += 1
                    continue
                if block != newest:
                    yield block, wanted, held
                ahead = page_count(series, Span(wanted.end_ms, span.end_ms)) + after
                self._runs.advance(self._run, index, wanted.end_ms, ahead, whole)
                whole = 0
            index, from_ms = index + 1, 0
            self._runs.advance(self._run, index, 0, after, whole)

    def _is_over(self) -> bool:
        """Return whether nothing is under way any more and all is held or told; the run's end is
        noted then.
        """
        self._take_up()
        if (
            self._runs.blocks.states(self._run)
            or self._runs.blocks.deferred(self._run)
            or not self._ending.settle()
        ):
            return False
        progress = self._runs.progress(self._run)
        # A run that was cancelled meanwhile has nothing under way either.
        if progress and progress.state is State.RUNNING:
            keep_report(self._led.services, progress)
            state = State.INCOMPLETE if progress.failed else State.COMPLETE
            if self._runs.end(self._run, state):
                logger.info("run %s is %s", self._run, state)
        return True

    def _take_up(self) -> None:
        """Put under way what had to wait for another run, and what a planner had claimed that was
        killed.
        """
        claimed = [
            block
            for block, told in self._runs.blocks.states(self._run).items()
            if told.phase is Phase.CLAIMED
        ]
        for block in [*claimed, *self._runs.blocks.deferred(self._run)]:
            if not self._runs.blocks.claim(self._run, block):
                continue
            if held := self._led.held(self._holdings, block.series, anew=True):
                self._dispatch.put_under_way(block, block.span.clip(self._led.wanted(held)), held)
            else:
                self._runs.blocks.release(self._run, block)

"""klines.plan: request − coverage → blocks → windows of pages or files, issued piece by piece as others finish.

One planner at a time leads a run. It works in short turns and sends itself again, so many runs share the plan slots,
and one that was killed is missed within seconds (`wake_leaderless`) and goes on from the run's cursor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from celery.exceptions import Reject
from redis import RedisError

from tasks.backlog import FETCHING
from tasks.context import about
from tasks.holdings import Held, Holdings
from tasks.messages import send_compact, send_fetch, send_plan
from tasks.policy import policy_for
from tasks.progress import Runs, State, compact_lease, fetch_lease
from tasks.request import Request
from tasks.summary import keep_report
from workers.app import app
from workers.binance.markets import page_count
from workers.errors import Failed, FleetError, Limited, Transient
from workers.heart import leased, now_ms
from workers.model import Block, Series, Span, Window
from workers.queues import COMPACT, PLAN, queue_of
from workers.sources import NO_FILE, Cut, Policy, cut
from workers.toolbox import Toolbox
from workers.windows import missing

logger = logging.getLogger(__name__)

#: Windows of one run that are issued and not yet done: half a minute of the spot budget, seconds for many workers.
WINDOWS_IN_FLIGHT = 200
#: Blocks of one run that are fetched or wait to be compacted: so much of the raw zone is in use at once, at most.
BLOCKS_UNDER_WAY = 500
#: How long one turn leads a run before it lets others have the slot.
TURN_S = 20.0
#: How long a plan that cannot go on is held before it is handed back, to whoever finds it next.
HAND_BACK_S = 2.0
#: How often lost work is looked for; what is missed twice in a row is sent again.
LOOK_S = 3.0
#: How long one listening to the bell lasts; shorter than any timeout of the connection.
BELL_S = 2.0
#: Times that what is held of a symbol, or when it was listed, is looked up before the symbol counts as failed.
TRIES = 5


@app.task(name="klines.plan", bind=True, throws=(Failed,))  # type: ignore[untyped-decorator]
def plan(self: Any, run: str) -> None:
    """Lead a run for one turn; does nothing while another planner leads it, or once it has ended."""
    tools: Toolbox = self.app.toolbox
    about(run)
    try:
        with tools.heart.lease(f"plan|{run}") as leads:
            goes_on = leads and Planner(tools, run).lead(TURN_S)
        if goes_on:
            send_plan(run)
    except (RedisError, Transient) as error:
        logger.warning("plan %s: handed back: %s", run, error)
        tools.stop.wait(HAND_BACK_S)
        raise Reject(error, requeue=True) from error
    except FleetError as error:
        logger.error("plan %s: %s", run, error.reason)
        Runs(tools.redis).fail(run, "plan", error.reason)
        Runs(tools.redis).end(run, State.INCOMPLETE)
        raise Failed(error.reason) from error


def answer_bell(tools: Toolbox) -> None:
    """Send a planner to each new run as its command rings, until the process is told to stop."""
    while not tools.stop.is_set():
        try:
            if run := Runs(tools.redis).rung(BELL_S):
                logger.info("run %s begins", run)
                send_plan(run)
        except RedisError as error:
            logger.warning("bell: %s; listening again", error)
            tools.stop.wait(1.0)


def wake_leaderless(tools: Toolbox) -> None:
    """Send a planner to every run that none leads and for which none is waiting."""
    active = Runs(tools.redis).active()
    if not tools.redis.llen(PLAN):
        for run, is_led in zip(active, leased(tools.redis, [f"plan|{run}" for run in active]), strict=True):
            if not is_led:
                send_plan(run)


class Planner:
    """Leads one run: issues its blocks, mends what was lost, and says when it has ended."""

    def __init__(self, tools: Toolbox, run: str) -> None:
        self._tools = tools
        self._run = run
        self._runs = Runs(tools.redis)
        self._archive_fault: FleetError | None = None
        self._policy_of: tuple[Series, Policy] | None = None
        self._missed: set[str] = set()
        self._looked = time.monotonic()

    def lead(self, seconds: float) -> bool:
        """Lead for at most `seconds`; returns whether the run goes on."""
        request = self._runs.request(self._run)
        if request is None:
            return False
        ends = time.monotonic() + seconds
        self._holdings = Holdings(self._tools, request)
        blocks = self._wanted(request)
        is_all_issued = False
        while not self._tools.stop.is_set() and time.monotonic() < ends:
            if self._runs.state(self._run) is not State.RUNNING:
                return False
            is_all_issued = is_all_issued or self._issue(request, blocks)
            if is_all_issued and self._is_over(request):
                return False
            self._runs.wait(self._run, 0.25)
            self._mend()
        return True

    def _issue(self, request: Request, blocks: Iterator[tuple[Block, Span, Held]]) -> bool:
        """Put blocks under way while there is room; returns whether there are no more."""
        while self._has_room():
            wanted = next(blocks, None)
            if wanted is None:
                return True
            block, span, held = wanted
            if not self._runs.is_open(self._run, block) and self._runs.claim(self._run, block):
                if self._runs.compacted_ms(block) >= held.read_ms:
                    held.read()
                self._put_under_way(request, block, span, held)
        return False

    def _has_room(self) -> bool:
        """Return whether more may be issued: workers that fetch faster than they compact wait for themselves."""
        windows, blocks = self._runs.in_flight(self._run)
        return windows < WINDOWS_IN_FLIGHT and blocks < BLOCKS_UNDER_WAY

    def _wanted(self, request: Request) -> Iterator[tuple[Block, Span, Held]]:
        """Yield the blocks from the run's cursor on, each with the time wanted of it; moves the cursor behind each."""
        index, from_ms = self._runs.cursor(self._run)
        calls_of_one = request.calls_of_one()
        for series in request.series(first=index):
            after = calls_of_one * (len(request.symbols) - index - 1)
            held, newest = self._look(request, series), None
            if held is None:
                index, from_ms = index + 1, 0
                self._runs.move_cursor(self._run, index, 0, after)
                continue
            if self._has_to_ask(request, held):
                # Its first candle has to be asked for. Meanwhile its newest block is fetched: that one exists.
                newest = series.block(request.end_ms - 1)
                yield newest, newest.span.clip(request.span), held
            span = self._clipped(request, held)
            whole = 0
            for block in series.blocks(Span(max(span.start_ms, from_ms), span.end_ms)):
                wanted = block.span.clip(span)
                if not request.revise and held.is_whole(block, wanted):
                    whole += 1
                    continue
                if block != newest:
                    yield block, wanted, held
                ahead = page_count(series, Span(wanted.end_ms, span.end_ms)) + after
                self._runs.move_cursor(self._run, index, wanted.end_ms, ahead)
            index, from_ms = index + 1, 0
            self._runs.hold(self._run, whole)
            self._runs.move_cursor(self._run, index, 0, after)

    def _has_to_ask(self, request: Request, held: Held) -> bool:
        """Return whether REST has to be asked since when there are rows of a series."""
        knows = self._tools.lives.knows(held.series)
        return not request.revise and not knows and bool(missing(held.series, held.spans, request.span))

    def _look(self, request: Request, series: Series) -> Held | None:
        """Return what is held of a series; None, with the symbol noted as failed, where that cannot be told."""
        try:
            return self._holdings.of(series)
        except FleetError as error:
            self._give_up(request, series.symbol, error)
            return None

    def _give_up(self, request: Request, symbol: str, error: FleetError) -> None:
        """Note a symbol as failed; raise the error again while another try, or waiting, may mend it."""
        is_wait = isinstance(error, Limited)
        if is_wait or (isinstance(error, Transient) and self._runs.try_again(self._run, symbol, TRIES)):
            raise error
        self._runs.fail(self._run, f"{request.market} {symbol}", error.reason)

    def _clipped(self, request: Request, held: Held) -> Span:
        """Return the part of the request in which the series can have candles; all of it where all is held."""
        if request.revise:
            return request.span.clip(held.held_from_to)
        if not missing(held.series, held.spans, request.span):
            return request.span
        symbol = held.series.symbol
        try:
            span = request.span.clip(self._tools.lives.of(held.series))
        except FleetError as error:
            self._give_up(request, symbol, error)
            return Span(request.end_ms, request.end_ms)
        if span != request.span:
            self._runs.note(self._run, symbol, "did not trade then" if span.is_empty else f"traded only in {span}")
        return span

    def _put_under_way(self, request: Request, block: Block, wanted: Span, held: Held) -> None:
        """Send what is missing of a claimed block; straight to compaction where only that is missing."""
        try:
            made = self._windows(request, block, wanted, held)
        except FleetError as error:
            self._runs.fail(self._run, str(block), error.reason)
            made = []
        if made:
            self._runs.open(self._run, block, made)
            send_fetch(self._run, made)
        elif held.is_raw_in(block):
            self._runs.open(self._run, block, [])
            send_compact(self._run, block)
        else:
            self._runs.release(self._run, block)

    def _windows(self, request: Request, block: Block, wanted: Span, held: Held) -> list[Window]:
        """Return what fetches the rest of a block, or what was published anew of it."""
        if request.revise:
            return held.reissued(block, wanted)
        policy = self._policy(request, held)
        found = self._cut(policy, block, missing(block.series, held.spans, wanted))
        self._runs.report(self._run, found.told)
        for span in found.absent:
            self._runs.fail(self._run, f"{block} {span}", NO_FILE)
        return found.windows

    def _cut(self, policy: Policy, block: Block, parts: list[Span]) -> Cut:
        """Return who is asked for `parts`; REST alone where the archive does not even tell what it has."""
        clock_ms = now_ms(self._tools.redis)
        if self._archive_fault is None:
            try:
                return cut(block, parts, self._tools.shelves.of(block.series), policy, now_ms=clock_ms)
            except FleetError as error:
                self._archive_fault = error
        if not policy.may_rest:
            raise self._archive_fault
        self._runs.report(self._run, {"archive": f"{self._archive_fault.reason}; REST instead"})
        return cut(block, parts, _NOTHING, policy, now_ms=clock_ms)

    def _policy(self, request: Request, held: Held) -> Policy:
        if self._policy_of is None or self._policy_of[0] != held.series:
            parts = missing(held.series, held.spans, request.span)
            self._policy_of = held.series, policy_for(self._tools, request, held.series, parts)
        return self._policy_of[1]

    def _is_over(self, request: Request) -> bool:
        """Whether nothing is under way any more; the run's end is noted then."""
        for block in self._runs.deferred(self._run):
            if self._runs.is_open(self._run, block):
                self._runs.settle(self._run, block)
            elif self._runs.claim(self._run, block):
                held = self._holdings.of(block.series, anew=True)
                self._put_under_way(request, block, block.span.clip(self._clipped(request, held)), held)
                self._runs.settle(self._run, block)
        if self._runs.blocks(self._run) or self._runs.deferred(self._run):
            return False
        progress = self._runs.progress(self._run)
        # A run that was cancelled meanwhile has nothing under way either.
        if progress and progress.state is State.RUNNING:
            keep_report(self._tools, progress)
            state = State.INCOMPLETE if progress.failed else State.COMPLETE
            if self._runs.end(self._run, state):
                logger.info("run %s is %s", self._run, state)
        return True

    def _mend(self) -> None:
        """Send again what no message and no living worker holds: the work of killed workers and lost messages."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        missed_before, self._missed = self._missed, set()
        for block, doing in self._runs.blocks(self._run).items():
            if doing == FETCHING:
                self._mend_fetching(block, missed_before)
            elif not self._is_queued(COMPACT) and self._is_lost(compact_lease(block), missed_before):
                send_compact(self._run, block)

    def _mend_fetching(self, block: Block, missed_before: set[str]) -> None:
        pending = self._runs.pending(block)
        if not pending:
            self._runs.compacting(self._run, block)
            send_compact(self._run, block)
            return
        idle = {queue: not self._is_queued(queue) for queue in {queue_of(window) for window in pending}}
        lost = [w for w in pending if idle[queue_of(w)] and self._is_lost(fetch_lease(w), missed_before)]
        if lost:
            logger.warning(
                "plan %s: %d windows of %s were lost with their worker: sent again", self._run, len(lost), block
            )
            send_fetch(self._run, lost)

    def _is_queued(self, queue: str) -> bool:
        return bool(self._tools.redis.llen(queue))

    def _is_lost(self, lease: str, missed_before: set[str]) -> bool:
        if leased(self._tools.redis, [lease])[0]:
            return False
        self._missed.add(lease)
        return lease in missed_before


class _Nothing:
    """The shelf of an archive that does not answer."""

    def monthly(self) -> list[str]:
        return []

    def daily(self, month: str) -> list[str]:
        return []


_NOTHING = _Nothing()

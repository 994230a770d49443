"""The planner of one run: dispatches its partitions piece by piece, and ends it."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator

from klinefleet.tasks.planning.completion_check import CompletionCheck
from klinefleet.tasks.planning.dispatch import PartitionDispatcher
from klinefleet.tasks.planning.ending import end_run
from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.planning.recovery import Recovery
from klinefleet.tasks.planning.run_context import (
    DEFAULT_LIMITS,
    MAX_LOOKUPS,
    PlannerLimits,
    RunContext,
)
from klinefleet.tasks.planning.run_store import require_own_run
from klinefleet.tasks.runs.progress import Phase, State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain.errors import (
    FleetError,
    MustWait,
    Restricted,
    StoreFault,
    TaskFailed,
    Transient,
    Unreadable,
)
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode

logger = logging.getLogger(__name__)

#: Times a run is requeued if this version cannot read its request, two seconds apart.
MAX_UNREADABLE_ATTEMPTS = 30
#: Seconds for which the planner waits for a change of its run.
WAIT_S = 0.25

#: A partition, the span of it that the lake should hold, and the holdings of its series.
PlannedPartition = tuple[Partition, Span, SeriesHoldings]


def start_planner(
    services: Services, run: str, lease: Lease, *, limits: PlannerLimits = DEFAULT_LIMITS
) -> Planner | None:
    """Return a planner that leads the run from now on; None if the run has ended or is unknown.

    Raises LeaseLost if a later planner leads it, Unreadable if a newer version has written its
    request, TaskFailed after MAX_UNREADABLE_ATTEMPTS times, LakeFormat if the lake is of another
    format, and what `require_own_run` raises for a run of another store.
    """
    unfenced = Runs(services.redis)
    try:
        request = unfenced.request(run)
    except Unreadable as error:
        # Requeued, the task may reach a worker of the newer version.
        if unfenced.partitions.record_attempt(run, "request", MAX_UNREADABLE_ATTEMPTS):
            raise
        raise TaskFailed(error.reason) from error
    if request is None:
        # Redis has lost the run's hash: delete what is left of its state.
        unfenced.end(run, State.CANCELLED)
        return None
    require_own_run(services, unfenced, run)
    runs = unfenced.take_lead(run, lease.fence)
    return Planner(RunContext(services, run, request, runs, limits)) if runs else None


class Planner:
    """Leads one run: dispatches its partitions, resends lost work, and ends the run."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self.runs = context.runs
        """Fenced by this planner's lease."""
        self._run, self._runs, self._request = context.run, context.runs, context.request
        self._holdings = Holdings(context.services, context.request)
        self._dispatcher = PartitionDispatcher(context)
        self._recovery = Recovery(context)
        self._completion = CompletionCheck(context, self._dispatcher)
        self._failed_windows = 0

    def lead(self, seconds: float) -> bool:
        """Lead for at most `seconds`; return True if the run goes on after that."""
        ends = time.monotonic() + seconds
        self._refresh_symbols()
        partitions, is_all_dispatched = self._plan_partitions(), False
        while not self._context.services.stop.is_set() and time.monotonic() < ends:
            if self._runs.state(self._run) is not State.RUNNING:
                return False
            self._require_writable_store()
            is_all_dispatched = is_all_dispatched or self._dispatch(partitions)
            if is_all_dispatched and self._try_to_end():
                return False
            self._runs.wait_for_change(self._run, WAIT_S)
            self._recovery.resend_lost_work()
        return True

    def _refresh_symbols(self) -> None:
        """Refresh the market's symbols; on an error, go on with those loaded before.

        Without any, raises the error for a retry. After MAX_LOOKUPS times the archive goes on
        alone, if the request allows; else TaskFailed.
        """
        symbol_cache, market = self._context.services.symbol_cache, self._request.market
        if self._request.source is Mode.ARCHIVE or self._runs.rest_fault(self._run):
            return
        try:
            symbol_cache.refresh(market)
        except FleetError as error:
            if isinstance(error, Restricted) and self._context.go_on_without_rest(error):
                return
            if symbol_cache.are_loaded(market):
                logger.warning(
                    "plan %s: using older symbols of %s: %s", self._run, market, error.reason
                )
                return
            may_succeed_later = isinstance(
                error, Transient
            ) and self._runs.partitions.record_attempt(self._run, "listings", MAX_LOOKUPS)
            if isinstance(error, MustWait) or may_succeed_later:
                raise
            if self._context.go_on_without_rest(error):
                return
            raise TaskFailed(f"could not load symbols from the exchange: {error.reason}") from error

    def _require_writable_store(self) -> None:
        """Raise TaskFailed if windows have failed since the last look, and the store is the reason.

        The other windows of the run, perhaps a million, would fail as slowly as these.
        """
        failed = self._runs.failed_windows(self._run)
        if failed == self._failed_windows:
            return
        self._failed_windows = failed
        try:
            self._context.services.store.check_writable()
        except StoreFault as error:
            raise TaskFailed(f"{error}; what had not begun was not fetched") from error

    def _dispatch(self, partitions: Iterator[PlannedPartition]) -> bool:
        """Dispatch partitions while there is room; return True once there are no more."""
        while self._has_room():
            planned = next(partitions, None)
            if planned is None:
                return True
            partition, target, held = planned
            if self._runs.partitions.claim(self._run, partition):
                if self._runs.partitions.last_compacted_ms(partition) >= held.read_ms:
                    held.read()
                self._dispatcher.dispatch(partition, target, held)
        return False

    def _has_room(self) -> bool:
        """Return True if more work may be in flight.

        This holds back a fleet that fetches faster than it compacts.
        """
        windows, partitions = self._runs.partitions.count_in_flight(self._run)
        limits = self._context.limits
        return windows < limits.windows_in_flight and partitions < limits.partitions_in_flight

    def _plan_partitions(self) -> Iterator[PlannedPartition]:
        """Yield the partitions from the run's cursor on; move the cursor past each."""
        request = self._request
        index, from_ms = self._runs.cursor(self._run)
        calls_per_symbol = request.calls_per_symbol()
        for series in request.series(first=index):
            calls_after = calls_per_symbol * (len(request.symbols) - index - 1)
            partitions_held = 0
            if held := self._context.load_holdings(self._holdings, series):
                partitions_held = yield from self._plan_series(
                    series, held, index, from_ms, calls_after
                )
            index, from_ms = index + 1, 0
            self._runs.advance(self._run, index, 0, calls_after, partitions_held)

    def _plan_series(
        self, series: Series, held: SeriesHoldings, index: int, from_ms: int, calls_after: int
    ) -> Generator[PlannedPartition, None, int]:
        """Yield the incomplete partitions of a series; return how many complete ones ended it.

        Moves the cursor past each partition. `calls_after`: calls for the symbols after this one.
        """
        request, newest = self._request, None
        if self._context.needs_listing_request(held):
            # REST must be asked for the first candle's time. The newest partition exists in any
            # case, so it is fetched meanwhile.
            newest = series.partition(request.end_ms - 1)
            yield newest, newest.span.clip(request.span), held
        target = self._context.target_span(held)
        partitions_held = 0
        for partition in series.partitions(Span(max(target.start_ms, from_ms), target.end_ms)):
            part = partition.span.clip(target)
            is_held = not request.revise and held.is_complete(partition, part)
            if is_held and not self._dispatcher.has_doubts(part, held):
                partitions_held += 1
                continue
            if partition != newest:
                yield partition, part, held
            calls_ahead = page_count(series, Span(part.end_ms, target.end_ms)) + calls_after
            self._runs.advance(self._run, index, part.end_ms, calls_ahead, partitions_held)
            partitions_held = 0
        return partitions_held

    def _try_to_end(self) -> bool:
        """End the run and return True if nothing is in flight and the lake has been compared."""
        self._dispatch_leftovers()
        if (
            self._runs.partitions.states(self._run)
            or self._runs.partitions.deferred(self._run)
            or not self._completion.check()
        ):
            return False
        # A run that was cancelled meanwhile has nothing in flight either.
        end_run(
            self._context.services,
            self._runs,
            self._run,
            self._completion.counts,
            may_try_again=True,
        )
        return True

    def _dispatch_leftovers(self) -> None:
        """Dispatch deferred partitions, and those that a killed planner left claimed."""
        claimed = [
            partition
            for partition, state in self._runs.partitions.states(self._run).items()
            if state.phase is Phase.CLAIMED
        ]
        for partition in [*claimed, *self._runs.partitions.deferred(self._run)]:
            if not self._runs.partitions.claim(self._run, partition):
                continue
            held = self._context.load_holdings(self._holdings, partition.series, fresh=True)
            if held:
                target = partition.span.clip(self._context.target_span(held))
                self._dispatcher.dispatch(partition, target, held)
            else:
                self._runs.partitions.release_unneeded(self._run, partition)

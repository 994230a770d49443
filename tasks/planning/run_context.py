"""What the parts of a planner share: the run, its request, and lookups that may fail a symbol."""

from __future__ import annotations

from dataclasses import dataclass

from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.lost_work import CHECK_INTERVAL_S
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import (
    FleetError,
    MustWait,
    Restricted,
    Transient,
    Unreachable,
)
from klinefleet.workers.domain.series import Series, missing
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode

#: Lookups of a symbol's holdings or listing date before the symbol counts as failed.
MAX_LOOKUPS = 5


@dataclass(frozen=True, slots=True)
class PlannerLimits:
    """How much work of one run is in flight at most, and how often lost work is looked for."""

    windows_in_flight: int = 200
    """Pending windows: half a minute of the spot budget, seconds for many workers."""
    partitions_in_flight: int = 500
    """Open partitions; bounds the raw zone."""
    lost_work_interval_s: float = CHECK_INTERVAL_S


DEFAULT_LIMITS = PlannerLimits()


@dataclass(frozen=True)
class RunContext:
    """A run under a planner. `runs` is fenced: it raises LeaseLost once another planner leads."""

    services: Services
    run: str
    request: Request
    runs: Runs
    limits: PlannerLimits = DEFAULT_LIMITS

    def load_holdings(
        self, holdings: Holdings, series: Series, *, fresh: bool = False
    ) -> SeriesHoldings | None:
        """Return the series' holdings; None, with the symbol recorded as failed, on an error.

        Raises the error as long as another lookup may succeed.
        """
        try:
            return holdings.load(series, fresh=fresh)
        except FleetError as error:
            self._fail_symbol(series, error)
            return None

    def target_span(self, held: SeriesHoldings) -> Span:
        """Return the span the lake should hold: the part of the request in which the series traded.

        With `revise`, that is the part that the lake holds already. Time that REST was to be asked
        about in vain is recorded as failed; all of it if nobody knows when the series traded.
        """
        request, series = self.request, held.series
        if request.revise:
            return request.span.clip(held.extent)
        if not missing(series, held.covered, request.span):
            return request.span
        try:
            traded = self.services.trading_spans.within(
                series, request.span, request.source, rest_fault=self.runs.rest_fault(self.run)
            )
        except FleetError as error:
            self._fail_symbol(series, error)
            return Span(request.end_ms, request.end_ms)
        for unproved, fault in traded.unproved:
            # A record without a span is of all that was requested.
            self._fail_symbol(series, fault, None if unproved == request.span else unproved)
            self.go_on_without_rest(fault)
        # Rows that the lake holds show that it traded then.
        span = _hull(traded.span, spans.clip(held.in_lake.present, request.span))
        if span != request.span and not traded.unproved:
            note = "did not trade then" if span.is_empty else f"traded only in {span}"
            self.runs.record(self.run, Record(Level.NOTE, note, series))
        return span

    def go_on_without_rest(self, error: FleetError) -> bool:
        """Have the run go on with the archive alone if REST does not answer and the request allows.

        Returns whether it does. An answer, such as a 5xx, is no reason.
        """
        is_away = isinstance(error, Restricted | Unreachable)
        if not is_away or self.request.source is not Mode.AUTO:
            return False
        self.runs.mark_rest_away(self.run, error)
        return True

    def needs_listing_request(self, held: SeriesHoldings) -> bool:
        """Return True if REST has to be asked for any hint of the series' beginning."""
        request = self.request
        if request.revise or not missing(held.series, held.in_lake_or_raw, request.span):
            return False
        if request.source is Mode.ARCHIVE or self.runs.rest_fault(self.run):
            return False
        return not self.services.trading_spans.is_beginning_known(held.series)

    def _fail_symbol(self, series: Series, error: FleetError, span: Span | None = None) -> None:
        """Record a symbol, or a span of it, as failed.

        Raises the error instead if a later lookup may succeed.
        """
        may_succeed_later = isinstance(error, MustWait) or (
            isinstance(error, Transient)
            and self.runs.partitions.record_attempt(self.run, series.symbol, MAX_LOOKUPS)
        )
        if may_succeed_later:
            raise error
        self.runs.record(self.run, Record(Level.FAILED, error.reason, series, span))


def _hull(span: Span, held: list[Span]) -> Span:
    """Return the time from the first to the last of a span, if it has any, and of held time."""
    known = [*([] if span.is_empty else [span]), *held]
    if not known:
        return span
    return Span(min(one.start_ms for one in known), max(one.end_ms for one in known))

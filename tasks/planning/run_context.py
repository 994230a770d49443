"""What the parts of a planner share: the run, its request, and lookups that may fail a symbol."""

from __future__ import annotations

from dataclasses import dataclass

from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.lost_work import CHECK_INTERVAL_S
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import FleetError, MustWait, Transient
from klinefleet.workers.domain.series import Series, missing
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services

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

        With `revise`, that is the part that the lake holds already. Empty, with the symbol recorded
        as failed, if its listing date could not be loaded.
        """
        request, series = self.request, held.series
        if request.revise:
            return request.span.clip(held.extent)
        if not missing(series, held.covered, request.span):
            return request.span
        try:
            span = request.span.clip(self.services.listing_dates.trading_span(series))
        except FleetError as error:
            self._fail_symbol(series, error)
            return Span(request.end_ms, request.end_ms)
        if span != request.span:
            note = "did not trade then" if span.is_empty else f"traded only in {span}"
            self.runs.record(self.run, Record(Level.NOTE, note, series))
        return span

    def needs_listing_request(self, held: SeriesHoldings) -> bool:
        """Return True if `target_span` will have to ask REST for the first candle's time."""
        if self.request.revise or not missing(held.series, held.in_lake_or_raw, self.request.span):
            return False
        try:
            return not self.services.listing_dates.known_without_request(held.series)
        except FleetError:
            return False  # `target_span` meets the same error and handles it

    def _fail_symbol(self, series: Series, error: FleetError) -> None:
        """Record a symbol as failed; raise the error instead if a later lookup may succeed."""
        may_succeed_later = isinstance(error, MustWait) or (
            isinstance(error, Transient)
            and self.runs.partitions.record_attempt(self.run, series.symbol, MAX_LOOKUPS)
        )
        if may_succeed_later:
            raise error
        self.runs.record(self.run, Record(Level.FAILED, error.reason, series))

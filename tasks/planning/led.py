"""A run and what its planner leads it with, and which time of its series it wants."""

from __future__ import annotations

from dataclasses import dataclass

from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.lost_work import LOOK_S
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import FleetError, MustWait, Transient
from klinefleet.workers.domain.series import Series, missing
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services

#: Times that what is held of a symbol, or when it was listed, is looked up before the symbol counts
#: as failed.
TRIES = 5


@dataclass(frozen=True, slots=True)
class PlannerLimits:
    """How much of one run is under way at once, and how often its lost work is looked for."""

    windows_in_flight: int = 200
    """Windows that are issued and not yet done: half a minute of the spot budget."""
    blocks_under_way: int = 500
    """Blocks that are fetched or wait to be compacted; bounds the size of the raw zone."""
    lost_work_interval_s: float = LOOK_S


DEFAULT_LIMITS = PlannerLimits()


@dataclass(frozen=True)
class LedRun:
    """A run that is led; `runs` has the planner's fencing number, so that only its latest planner
    changes it.
    """

    services: Services
    run: str
    request: Request
    runs: Runs
    limits: PlannerLimits = DEFAULT_LIMITS

    def held(
        self, holdings: Holdings, series: Series, *, anew: bool = False
    ) -> SeriesHoldings | None:
        """Return what is held of a series; None, with the symbol noted as failed, where that cannot
        be told.
        """
        try:
            return holdings.of(series, anew=anew)
        except FleetError as error:
            self._give_up(series, error)
            return None

    def wanted(self, held: SeriesHoldings) -> Span:
        """Return the part of the request in which the series can have candles; all of it where all
        is held.
        """
        request, series = self.request, held.series
        if request.revise:
            return request.span.clip(held.held_from_to)
        if not missing(series, held.lake, request.span):
            return request.span
        try:
            span = request.span.clip(self.services.listing_dates.trading_span(series))
        except FleetError as error:
            self._give_up(series, error)
            return Span(request.end_ms, request.end_ms)
        if span != request.span:
            told = "did not trade then" if span.is_empty else f"traded only in {span}"
            self.runs.record(self.run, Record(Level.NOTE, told, series))
        return span

    def has_to_ask(self, held: SeriesHoldings) -> bool:
        """Return whether REST has to be asked since when there are rows of a series."""
        if self.request.revise or not missing(held.series, held.spans, self.request.span):
            return False
        try:
            return not self.services.listing_dates.known_without_request(held.series)
        except FleetError:
            # `wanted` meets the same and deals with it.
            return False

    def _give_up(self, series: Series, error: FleetError) -> None:
        """Note a symbol as failed; raise the error again while another try, or waiting, may mend
        it.
        """
        is_wait = isinstance(error, MustWait)
        if is_wait or (
            isinstance(error, Transient)
            and self.runs.blocks.record_attempt(self.run, series.symbol, TRIES)
        ):
            raise error
        self.runs.record(self.run, Record(Level.FAILED, error.reason, series))

"""Fetch what a reader lacks through a fleet, and wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.follow import follow
from klinefleet.tasks.client.session import exchange_ms, say
from klinefleet.tasks.fleet.supervisor import Supervisor
from klinefleet.tasks.planning.ending import cancel_run
from klinefleet.tasks.requests.build import FIRST_MS
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.tasks.requests.request import Request, closed_ms
from klinefleet.tasks.requests.symbols import SymbolSelection, choose_symbols
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.records import Level, causes
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import RequestError, TaskFailed
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode

#: Failures that an error names; `klines status RUN` lists all.
_MAX_NAMED = 3


class FleetFetcher:
    """Fetches missing data through the fleet of `services`, showing progress on stderr.

    `start_workers` starts workers for some queues where none run; it is called once, when something
    is fetched. Workers of another store are refused.
    """

    def __init__(
        self,
        services: Services,
        start_workers: Callable[[list[str]], Supervisor] | None = None,
    ) -> None:
        self._services = services
        self._runs = Runs(services.redis)
        self._start_workers = start_workers

    def trading_span(self, series: Series) -> Span:
        """Return the span, ms UTC, in which the series can have closed candles; it may be empty.

        UnknownSymbol if neither REST nor the archive has the symbol; RequestError if Redis or the
        exchange does not answer.
        """
        market, selection = series.market, SymbolSelection((series.symbol,))
        with on_refusal("nothing was queued"):
            preflight.check_redis(self._services)
            preflight.check_lake(self._services)
            preflight.check_same_store(self._services)
            preflight.load_exchange_info(self._services, market)
            choose_symbols(
                self._services, market, series.kind, series.interval, selection, Mode.AUTO, say
            )
        final_ms = closed_ms(series.kind, series.interval, exchange_ms(self._services, market))
        traded = self._services.trading_spans.within(series, Span(FIRST_MS, final_ms))
        for span, error in traded.unproved:
            raise RequestError(f"when {series.label} traded in {span} is unknown: {error.reason}")
        return traded.span

    def fetch(self, wanted: Mapping[Series, list[Span]]) -> None:
        """Fetch the spans, and return when the lake holds them.

        TaskFailed names the windows that failed. Ctrl-C cancels the runs.
        """
        requests = list(group_into_requests(wanted))
        with on_refusal("nothing was queued"):
            preflight.check_redis(self._services)
            preflight.check_store(self._services)
            preflight.check_lake(self._services)
            preflight.check_same_store(self._services)
            on_poll = self._ensure_workers(requests)
        store = self._services.own_store()
        runs = [self._runs.create(request, store) for request in requests]
        try:
            ended = [follow(self._services, run, on_poll) for run in runs]
        except KeyboardInterrupt:
            for run in runs:
                cancel_run(self._services, run)
            say("cancelled; fetched data is kept, and the same request continues from there")
            raise
        if failed := [progress for progress in ended if progress.state is not State.COMPLETE]:
            raise TaskFailed(_failure_message(failed))

    def _ensure_workers(self, requests: list[Request]) -> Callable[[], None]:
        """Return what to call while waiting, to keep workers started here alive.

        RequestError if workers are missing and none may be started.
        """
        queues = chain.from_iterable(
            preflight.required_queues(request.market, request.kind, request.source)
            for request in requests
        )
        needed = list(dict.fromkeys(queues))
        if self._start_workers is None:
            preflight.check_workers(self._services, needed)
            return lambda: None
        return self._start_workers(needed).restart_dead


def group_into_requests(wanted: Mapping[Series, list[Span]]) -> Iterator[Request]:
    """Yield one request for each market, kind and interval, from the first to the last wanted time.

    It may span more than is wanted; the planner fetches only what the lake lacks.
    """
    groups: dict[tuple[Market, Kind, str], dict[Series, list[Span]]] = {}
    for series, spans in wanted.items():
        if spans:
            groups.setdefault((series.market, series.kind, series.interval), {})[series] = spans
    for group in groups.values():
        first, spans = next(iter(group)), list(chain.from_iterable(group.values()))
        symbols = tuple(series.symbol for series in group)
        start_ms = first.interval.floor(min(span.start_ms for span in spans))
        end_ms = first.interval.ceil(max(span.end_ms for span in spans))
        yield Request(first.market, first.kind, first.interval, symbols, start_ms, end_ms)


def _failure_message(failed: list[Progress]) -> str:
    """Return in one line which runs failed, and why."""
    reasons = [
        f"{one.name}: {one.text}"
        for progress in failed
        for one in causes(progress.records)
        if one.level is Level.FAILED
    ]
    more = f" and {len(reasons) - _MAX_NAMED:,} more" if len(reasons) > _MAX_NAMED else ""
    runs = ", ".join(f"{progress.run} is {progress.state}" for progress in failed)
    named = f": {'; '.join(reasons[:_MAX_NAMED])}{more}" if reasons else ""
    return f"run {runs}{named}. Fetched data is kept; the same request fetches the rest"

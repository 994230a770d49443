"""What a reader asks a fleet for, and waits for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.follow import follow
from klinefleet.tasks.client.session import exchange_ms
from klinefleet.tasks.fleet.supervisor import Supervisor
from klinefleet.tasks.requests.request import Request, closed_ms
from klinefleet.tasks.requests.symbols import SymbolSelection, choose_symbols
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import TaskFailed
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode

#: Failures that an error names; `klines status RUN` has all.
_NAMED = 3


class FleetFetcher:
    """Has the fleet of `services` fetch what is missing, showing how it goes on stderr.

    `start` starts workers for some queues where there are none; it is called when something is to
    be fetched, once. The workers must work for the store that is read.
    """

    def __init__(
        self, services: Services, start: Callable[[list[str]], Supervisor] | None = None
    ) -> None:
        self._services = services
        self._runs = Runs(services.redis)
        self._start = start

    def trading_span(self, series: Series) -> Span:
        """Return the time in which the series can have closed candles, ms UTC; it may be empty.

        UnknownSymbol where neither REST nor the archive knows it; RequestError where no Redis or
        exchange answers.
        """
        market = series.market
        preflight.check_redis(self._services)
        preflight.load_exchange_info(self._services, market)
        selection = SymbolSelection((series.symbol,))
        choose_symbols(
            self._services, market, series.kind, series.interval, selection, Mode.AUTO, _say
        )
        life = self._services.listing_dates.trading_span(series)
        return Span(
            life.start_ms,
            min(
                life.end_ms,
                closed_ms(series.kind, series.interval, exchange_ms(self._services, market)),
            ),
        )

    def fetch(self, wanted: Mapping[Series, list[Span]]) -> None:
        """Return when the lake holds all of it; TaskFailed names the windows that failed.

        Ctrl-C cancels the runs.
        """
        requests = list(requests_of(wanted))
        preflight.check_redis(self._services)
        preflight.check_store(self._services)
        tend = self._have_workers(requests)
        runs = [self._runs.create(request) for request in requests]
        try:
            ended = [follow(self._services, run, tend) for run in runs]
        except KeyboardInterrupt:
            for run in runs:
                self._runs.end(run, State.CANCELLED)
            _say("cancelled: what was fetched is kept, the same again goes on from there")
            raise
        if failed := [progress for progress in ended if progress.state is not State.COMPLETE]:
            raise TaskFailed(_told(failed))

    def _have_workers(self, requests: list[Request]) -> Callable[[], None]:
        """Return what keeps the workers going that were started for this; RequestError where there
        are none.
        """
        queues = chain.from_iterable(
            preflight.queues_of(one.market, one.kind, one.source) for one in requests
        )
        needed = list(dict.fromkeys(queues))
        if self._start is None:
            preflight.check_workers(self._services, needed)
            return lambda: None
        return self._start(needed).restart_dead


def requests_of(wanted: Mapping[Series, list[Span]]) -> Iterator[Request]:
    """Yield one request for each market, kind and interval, from the first wanted moment to the
    last.

    The planner fetches of that time what the lake lacks: of one reading, no more than what is
    wanted.
    """
    groups: dict[tuple[Market, Kind, str], dict[Series, list[Span]]] = {}
    for series, spans in wanted.items():
        if spans:
            groups.setdefault((series.market, series.kind, series.interval), {})[series] = spans
    for several in groups.values():
        first, spans = next(iter(several)), list(chain.from_iterable(several.values()))
        symbols = tuple(series.symbol for series in several)
        start_ms = first.interval.floor(min(span.start_ms for span in spans))
        end_ms = first.interval.ceil(max(span.end_ms for span in spans))
        yield Request(first.market, first.kind, first.interval, symbols, start_ms, end_ms)


def _told(failed: list[Progress]) -> str:
    """Return in one line what could not be fetched, and why."""
    reasons = [
        f"{name}: {reason}" for progress in failed for name, reason in progress.failed.items()
    ]
    more = f" and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
    runs = ", ".join(f"{progress.run} is {progress.state}" for progress in failed)
    named = f": {'; '.join(reasons[:_NAMED])}{more}" if reasons else ""
    return f"run {runs}{named}. What was fetched is held; the same again fetches the rest"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

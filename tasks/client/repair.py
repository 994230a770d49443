"""Mends what a verification found: faulty time is taken out of the lake, so that it is missing, and
fetched again.

Interrupted in between, the time stays missing, which the next download of it mends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.follow import follow
from klinefleet.tasks.client.session import exchange_ms
from klinefleet.tasks.requests import build
from klinefleet.tasks.requests.request import Request, closed_ms
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import Fault
from klinefleet.workers.services import Services


@dataclass(slots=True)
class Repair:
    """What was done about faults."""

    taken: dict[Series, list[Span]] = field(default_factory=dict)
    """The time that was taken out of the lake."""
    runs: list[Progress] = field(default_factory=list)
    """How it was fetched again."""
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be taken out, or not be fetched again."""

    def is_mended(self, series: Series) -> bool:
        """Return whether all that was taken out of a series was fetched again, as far as it exists."""
        mine = [run for run in self.runs if series in run.request.series()]
        return series in self.taken and all(run.state is State.COMPLETE for run in mine)


def repair(services: Services, faults: Iterable[Fault], tend: Callable[[], None]) -> Repair:
    """Take faulty time out of the lake and have it fetched again; `tend` is called meanwhile.

    RequestError, and nothing is taken out, where the exchange does not even tell its symbols.
    Interrupted, the runs are cancelled.
    """
    wrong = _by_partition(faults)
    for market in sorted({series.market for series, _ in wrong}):
        preflight.load_exchange_info(services, market)
    done, runs = Repair(), Runs(services.redis)
    for (series, month), parts in wrong.items():
        try:
            gone = services.partitions.forget(series, month, parts)
            done.taken[series] = spans.union([*done.taken.get(series, []), *gone])
        except FleetError as error:
            done.failed[keys.partition(series, month)] = error.reason
    created = [runs.create(request) for request in requests_of(services, done.taken)]
    try:
        done.runs = [follow(services, run, tend) for run in created]
    except BaseException:
        for run in created:
            runs.end(run, State.CANCELLED)
        raise
    for ended in done.runs:
        done.failed |= ended.failed
    return done


def requests_of(services: Services, taken: dict[Series, list[Span]]) -> Iterator[Request]:
    """Yield what fetches the time that was taken out: one request for all symbols that lack the
    same.
    """
    now_ms: dict[Market, int] = {}
    alike: dict[tuple[Series, Span], list[str]] = {}
    for series, parts in taken.items():
        if series.market not in now_ms:
            now_ms[series.market] = exchange_ms(services, series.market)
        possible = Span(
            build.FIRST_MS, closed_ms(series.kind, series.interval, now_ms[series.market])
        )
        for span in _joined(services, series, spans.clip(parts, possible)):
            if series.interval.opens(span.start_ms, span.end_ms):
                any_series = Series(series.market, series.kind, series.interval, "")
                alike.setdefault((any_series, span), []).append(series.symbol)
    for (series, span), symbols in alike.items():
        yield Request(
            series.market, series.kind, series.interval, tuple(symbols), span.start_ms, span.end_ms
        )


def _by_partition(faults: Iterable[Fault]) -> dict[tuple[Series, str], list[Span] | None]:
    """Return what is to be taken out of each partition, None for all of it."""
    wrong: dict[tuple[Series, str], list[Span] | None] = {}
    for fault in faults:
        partition = keys.partition_of(fault.key)
        if partition is not None:
            parts = wrong.setdefault(partition, [])
            wrong[partition] = (
                None if parts is None or fault.span is None else spans.union([*parts, fault.span])
            )
    return wrong


def _joined(services: Services, series: Series, parts: list[Span]) -> list[Span]:
    """Return spans that lack just `parts`: neighbours with nothing but held time between them are
    one.
    """
    try:
        held = services.coverage.covered(series)
    except FleetError:
        return parts
    joined: list[Span] = []
    for part in parts:
        if joined and not spans.gaps(held, Span(joined[-1].end_ms, part.start_ms)):
            joined[-1] = Span(joined[-1].start_ms, part.end_ms)
        else:
            joined.append(part)
    return joined

"""Repair what a verification found: remove the faulty time from the lake, then fetch it again.

If that is interrupted, the removed time is missing, and the next download fetches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.follow import follow
from klinefleet.tasks.client.session import exchange_ms
from klinefleet.tasks.planning.ending import cancel_run
from klinefleet.tasks.requests import build
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.tasks.requests.request import Request, closed_ms
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import Fault
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode


@dataclass(slots=True)
class Repair:
    """The result of a repair."""

    removed: dict[Series, list[Span]] = field(default_factory=dict)
    """The spans that were removed from the lake."""
    runs: list[Progress] = field(default_factory=list)
    """The ended runs that fetched them again."""
    failed: dict[str, str] = field(default_factory=dict)
    """Partitions or windows that could not be removed or fetched, with the reason."""

    def is_complete(self, series: Series) -> bool:
        """Return True if all that was removed from a series, and exists, was fetched again."""
        runs = [run for run in self.runs if series in run.request.series()]
        return series in self.removed and all(run.state is State.COMPLETE for run in runs)


def repair(services: Services, faults: Iterable[Fault], on_poll: Callable[[], None]) -> Repair:
    """Remove faulty time from the lake and fetch it again; `on_poll` is called while waiting.

    RequestError, before anything is removed, if the exchange's symbols cannot be loaded. If
    interrupted, the runs are cancelled.
    """
    faulty = _spans_by_partition(faults)
    with on_refusal("nothing was removed"):
        for market in sorted({partition.series.market for partition in faulty}):
            preflight.load_exchange_info(services, market, Mode.REST)
    result, runs = Repair(), Runs(services.redis)
    for partition, parts in faulty.items():
        series = partition.series
        try:
            removed = services.partitions.forget(partition, parts)
            result.removed[series] = spans.union([*result.removed.get(series, []), *removed])
        except FleetError as error:
            result.failed[keys.partition(partition)] = error.reason
    store = services.own_store()
    requests = list(refetch_requests(services, result.removed))
    created = [runs.create(request, store) for request in requests]
    try:
        result.runs = [
            replace(follow(services, run, on_poll), request=request)
            for run, request in zip(created, requests, strict=True)
        ]
    except BaseException:
        for run in created:
            cancel_run(services, run)
        raise
    for progress in result.runs:
        result.failed |= progress.failed
    return result


def refetch_requests(services: Services, removed: dict[Series, list[Span]]) -> Iterator[Request]:
    """Yield requests for the removed spans, one for all symbols that lack the same span."""
    now_ms: dict[Market, int] = {}
    symbols_by_span: dict[tuple[Series, Span], list[str]] = {}
    for series, parts in removed.items():
        if series.market not in now_ms:
            now_ms[series.market] = exchange_ms(services, series.market)
        end_ms = closed_ms(series.kind, series.interval, now_ms[series.market])
        fetchable = spans.clip(parts, Span(build.FIRST_MS, end_ms))
        for span in _joined(services, series, fetchable):
            if series.interval.opens(span.start_ms, span.end_ms):
                any_series = Series(series.market, series.kind, series.interval, "")
                symbols_by_span.setdefault((any_series, span), []).append(series.symbol)
    for (series, span), symbols in symbols_by_span.items():
        yield Request(
            series.market, series.kind, series.interval, tuple(symbols), span.start_ms, span.end_ms
        )


def _spans_by_partition(
    faults: Iterable[Fault],
) -> dict[Partition, list[Span] | None]:
    """Return the spans to remove from each partition, None for all of it."""
    faulty: dict[Partition, list[Span] | None] = {}
    for fault in faults:
        partition = keys.partition_of(fault.key)
        if partition is None:
            continue
        parts = faulty.setdefault(partition, [])
        if parts is None or fault.span is None:
            faulty[partition] = None
        else:
            faulty[partition] = spans.union([*parts, fault.span])
    return faulty


def _joined(services: Services, series: Series, parts: list[Span]) -> list[Span]:
    """Return the spans, those joined that have only held time between them."""
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

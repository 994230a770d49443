"""Compares a run's request with the lake before the run ends, in the planner's own store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from klinefleet.tasks.planning.dispatch import PartitionDispatcher
from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.planning.run_context import RunContext
from klinefleet.tasks.runs.records import Level, Record, failures_by_series
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import Partition, Series, missing
from klinefleet.workers.domain.spans import Span

logger = logging.getLogger(__name__)
#: Times a partition is dispatched again because the lake lacks rows that have not failed.
MAX_REDISPATCHES = 1


class CompletionCheck:
    """The check that the lake holds what one run has requested."""

    def __init__(self, context: RunContext, dispatcher: PartitionDispatcher) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self.counts = Counter[str]()
        """The rows that the last check found not to exist, by their counter."""

    def check(self) -> bool:
        """Return True if the lake holds the request, apart from what is recorded as failed.

        What the lake lacks is dispatched once more; what it lacks after that is recorded as failed.
        Only symbols of which the run has claimed a partition are compared: of the others, planning
        has found nothing missing.
        """
        context = self._context
        request = context.request
        claimed = context.runs.partitions.claimed_symbols(context.run)
        symbols = [symbol for symbol in request.symbols if claimed is None or symbol in claimed]
        holdings = Holdings(context.services, replace(request, symbols=tuple(symbols)))
        failures = failures_by_series(context.runs.records(context.run))
        is_complete = True
        self.counts = Counter()
        for symbol in symbols:
            series = Series(request.market, request.kind, request.interval, symbol)
            held = context.load_holdings(holdings, series)
            if held is not None:
                is_complete = self._check_series(held, failures.get(series, [])) and is_complete
        return is_complete

    def _check_series(self, held: SeriesHoldings, failures: list[Record]) -> bool:
        target = self._context.target_span(held)
        self._count_absent(held, target)
        self._withdraw_failures(held, failures)
        failed = [record.span or self._context.request.span for record in failures]
        is_complete = True
        for partition, parts in self._lacking(held, target, failed):
            if not self._fail_if_redispatched(partition, parts):
                self._redispatch(partition, parts, partition.span.clip(target), held)
                is_complete = False
        return is_complete

    def _count_absent(self, held: SeriesHoldings, target: Span) -> None:
        """Count the candles of the target that do not exist.

        A gap at the beginning or the end of the series itself is time in which it did not trade:
        the archive tells these to the day or month only.
        """
        lake, request, traded = held.in_lake, self._context.request, target
        present = spans.clip(lake.present, target)
        if present and target.start_ms > request.start_ms:
            traded = Span(present[0].start_ms, traded.end_ms)
        if present and target.end_ms < request.end_ms:
            traded = Span(traded.start_ms, present[-1].end_ms)

        def rows(parts: list[Span]) -> int:
            opens = held.series.interval.opens
            return sum(opens(part.start_ms, part.end_ms) for part in spans.clip(parts, traded))

        self.counts.update(absent=rows(lake.gaps), absent_by_one=rows(lake.absent_by_one))

    def _lacking(
        self, held: SeriesHoldings, target: Span, failed: list[Span]
    ) -> Iterator[tuple[Partition, list[Span]]]:
        """Yield each partition with the parts of `target` that the lake lacks, without `failed`."""
        series = held.series
        if self._context.request.revise:
            for partition in series.partitions(target):
                windows = held.republished(partition, partition.span.clip(target))
                if left := spans.without([window.span for window in windows], failed):
                    yield partition, left
            return
        unexplained = spans.without(missing(series, held.covered, target), failed)
        lacking = [part for part in unexplained if _has_rows(series, part)]
        for partition in dict.fromkeys(
            partition for part in lacking for partition in series.partitions(part)
        ):
            parts = spans.clip(lacking, partition.span)
            yield partition, [part for part in parts if _has_rows(series, part)]

    def _fail_if_redispatched(self, partition: Partition, parts: list[Span]) -> bool:
        """Record the parts as failed and return True if they were dispatched again already."""
        context = self._context
        attempts = context.runs.partitions.count_attempts(context.run, _attempt_name(partition))
        if attempts < MAX_REDISPATCHES:
            return False
        text = (
            "NotHeld: fetched and compacted twice, and not in the lake at "
            f"{context.services.settings.store_url}: the exchange's answers end earlier, "
            "or a worker's KLINES_STORE_URL names another store"
        )
        records = (Record(Level.FAILED, text, partition.series, part) for part in parts)
        context.runs.record(context.run, *records)
        return True

    def _redispatch(
        self, partition: Partition, parts: list[Span], target: Span, held: SeriesHoldings
    ) -> None:
        context = self._context
        lacking = ", ".join(map(str, parts))
        logger.warning(
            "plan %s: the lake lacks %s of %s; fetching it again", context.run, lacking, partition
        )
        if context.runs.partitions.claim(context.run, partition):
            self._dispatcher.dispatch(
                partition, target, held, attempt_name=_attempt_name(partition)
            )

    def _withdraw_failures(self, held: SeriesHoldings, failures: list[Record]) -> None:
        """Turn failures into reports if the lake holds their span."""
        context = self._context
        if context.request.revise:
            return
        obsolete = [
            record
            for record in failures
            if record.span
            and not missing(held.series, held.covered, record.span)
            # A witness that was to be asked and failed is still wanted.
            and not spans.clip(held.in_lake.unconfirmed, record.span)
        ]
        reports = (
            replace(record, level=Level.REPORT, text=f"{record.text}; the lake holds it anyway")
            for record in obsolete
        )
        context.runs.record(context.run, *reports, replacing=obsolete)


def _attempt_name(partition: Partition) -> str:
    return f"once more {partition}"


def _has_rows(series: Series, span: Span) -> bool:
    """Return True if a candle opens in the span."""
    return series.interval.opens(span.start_ms, span.end_ms) > 0

"""Dispatches claimed partitions: assigns a source to what is missing, and sends the tasks."""

from __future__ import annotations

from functools import partial

from klinefleet.tasks.planning.holdings import SeriesHoldings
from klinefleet.tasks.planning.run_context import RunContext
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.policy import policy_for_request
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.series import Partition, Series, Window, missing
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.sources.choice import (
    NO_FILE,
    NO_FILE_NO_REST,
    NO_FILE_NO_SYMBOL,
    Assignment,
    NothingPublished,
    assign_sources,
)
from klinefleet.workers.sources.doubts import windows_for_witnesses
from klinefleet.workers.sources.policy import Mode, Policy

#: Windows that ask about held time in one run, at most, and the name that counts them.
MAX_WITNESS_WINDOWS, _WITNESSES = 100, "witness"


class PartitionDispatcher:
    """Opens the claimed partitions of one run and sends their tasks."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._archive_fault: FleetError | None = None
        self._last_policy: tuple[Series, Policy] | None = None

    def dispatch(
        self, partition: Partition, target: Span, held: SeriesHoldings, attempt_name: str = ""
    ) -> None:
        """Send fetch tasks for what is missing of `target`.

        If nothing is missing, raw objects of the partition are compacted; without any, it is
        released. `attempt_name`: an attempt to count in the same step.
        """
        context = self._context
        partitions, run = context.runs.partitions, context.run
        try:
            windows = self._windows(partition, target, held)
        except FleetError as error:
            context.runs.record(run, Record.for_partition(Level.FAILED, partition, error.reason))
            windows = []
        if not windows and not held.has_uncompacted(partition):
            partitions.release_unneeded(run, partition, attempt_name)
        elif sent_us := partitions.open(run, partition, windows, attempt_name):
            if windows:
                enqueue.send_fetch(run, windows, sent_us)
            else:
                enqueue.send_compact(run, partition, sent_us)

    def has_doubts(self, target: Span, held: SeriesHoldings) -> bool:
        """Return True if a second witness is to be asked about held time of `target`."""
        if not spans.clip(held.in_lake.unconfirmed, target):
            return False
        context = self._context
        asked = context.runs.partitions.count_attempts(context.run, _WITNESSES)
        return asked < MAX_WITNESS_WINDOWS

    def _windows(self, partition: Partition, target: Span, held: SeriesHoldings) -> list[Window]:
        """Return the windows that fetch what is missing or, with `revise`, what was republished."""
        context = self._context
        if context.request.revise:
            return held.republished(partition, target)
        parts = missing(partition.series, held.in_lake_or_raw, target)
        found = self._assign(self._policy(held), partition, parts)
        records = [
            Record(Level.REPORT, text, partition.series, _part_of_file(file, target), file)
            for file, text in found.missing_files.items()
        ]
        if found.unavailable:
            why = self._why_unavailable()
            records += [
                Record(Level.FAILED, why, partition.series, span) for span in found.unavailable
            ]
        context.runs.record(context.run, *records)
        return [*found.windows, *self._windows_for_witnesses(partition, target, held)]

    def _why_unavailable(self) -> str:
        """Return why time without an archive file has no other source."""
        if self._context.request.source is Mode.ARCHIVE:
            return NO_FILE
        is_away = self._context.runs.rest_fault(self._context.run) is not None
        return NO_FILE_NO_REST if is_away else NO_FILE_NO_SYMBOL

    def _windows_for_witnesses(
        self, partition: Partition, target: Span, held: SeriesHoldings
    ) -> list[Window]:
        """Return the windows that ask others about held time which one witness alone speaks of.

        A run sends so many of them at most; a later one goes on.
        """
        context, doubtful = self._context, spans.clip(held.in_lake.unconfirmed, target)
        if not doubtful:
            return []
        services, partitions = context.services, context.runs.partitions
        answers = services.coverage.footer(partition).answers
        ask = partial(windows_for_witnesses, partition, doubtful, answers)
        policy = self._policy(held)
        windows = list[Window]()
        if self._archive_fault is None:
            try:
                windows = ask(services.archive_indexes.get(partition.series), policy)
            except FleetError as error:
                self._archive_fault = error
        if self._archive_fault is not None:
            windows = ask(NothingPublished(), policy)
        return [
            window
            for window in windows
            if partitions.record_attempt(context.run, _WITNESSES, MAX_WITNESS_WINDOWS + 1)
        ]

    def _assign(self, policy: Policy, partition: Partition, parts: list[Span]) -> Assignment:
        """Return a source for each part; REST for all of them if the archive cannot be listed."""
        context = self._context
        clock_ms = now_ms(context.services.redis)
        if self._archive_fault is None:
            try:
                index = context.services.archive_indexes.get(partition.series)
                return assign_sources(partition, parts, index, policy, now_ms=clock_ms)
            except FleetError as error:
                self._archive_fault = error
        if not policy.may_rest:
            raise self._archive_fault
        text = f"{self._archive_fault.reason}; REST instead"
        context.runs.record(context.run, Record(Level.REPORT, text, source="archive"))
        return assign_sources(partition, parts, NothingPublished(), policy, now_ms=clock_ms)

    def _policy(self, held: SeriesHoldings) -> Policy:
        if self._last_policy is None or self._last_policy[0] != held.series:
            services, request = self._context.services, self._context.request
            parts = missing(held.series, held.in_lake_or_raw, request.span)
            is_rest_away = self._context.runs.rest_fault(self._context.run) is not None
            policy = policy_for_request(
                services, request, held.series, parts, is_rest_away=is_rest_away
            )
            self._last_policy = held.series, policy
        return self._last_policy[1]


def _part_of_file(key: str, target: Span) -> Span | None:
    """Return the part of `target` that an archive file covers."""
    file = ArchiveFile.parse(key)
    return file.span.clip(target) if file else None

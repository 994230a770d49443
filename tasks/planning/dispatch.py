"""How a claimed block comes under way: who is asked for what is missing of it, and the messages
that are sent.
"""

from __future__ import annotations

from klinefleet.tasks.planning.holdings import SeriesHoldings
from klinefleet.tasks.planning.led import LedRun
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.policy import policy_for
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.series import Block, Series, Window, missing
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.sources.choice import NO_FILE, Assignment, assign_sources
from klinefleet.workers.sources.policy import Policy


class Dispatch:
    """Puts the blocks of one run under way."""

    def __init__(self, led: LedRun) -> None:
        self._led = led
        self._archive_fault: FleetError | None = None
        self._policy_of: tuple[Series, Policy] | None = None

    def put_under_way(
        self, block: Block, wanted: Span, held: SeriesHoldings, counted_as: str = ""
    ) -> None:
        """Send what is missing of a claimed block; straight to compaction where only that is
        missing.

        `counted_as` counts one try, in the same step.
        """
        led = self._led
        try:
            made = self._windows(block, wanted, held)
        except FleetError as error:
            led.runs.record(led.run, Record.of_block(Level.FAILED, block, error.reason))
            made = []
        if not made and not held.is_raw_in(block):
            led.runs.blocks.release(led.run, block, counted_as)
        elif sent_us := led.runs.blocks.open(led.run, block, made, counted_as):
            if made:
                enqueue.send_fetch(led.run, made, sent_us)
            else:
                enqueue.send_compact(led.run, block, sent_us)

    def _windows(self, block: Block, wanted: Span, held: SeriesHoldings) -> list[Window]:
        """Return what fetches the rest of a block, or what was published anew of it."""
        led = self._led
        if led.request.revise:
            return held.reissued(block, wanted)
        found = self._cut(self._policy(held), block, missing(block.series, held.spans, wanted))
        told = [
            Record(Level.REPORT, text, block.series, source=file)
            for file, text in found.missing_files.items()
        ]
        told += [Record(Level.FAILED, NO_FILE, block.series, span) for span in found.unavailable]
        led.runs.record(led.run, *told)
        return found.windows

    def _cut(self, policy: Policy, block: Block, parts: list[Span]) -> Assignment:
        """Return who is asked for `parts`; REST alone where the archive does not even tell what it
        has.
        """
        led = self._led
        clock_ms = now_ms(led.services.redis)
        if self._archive_fault is None:
            try:
                return assign_sources(
                    block,
                    parts,
                    led.services.archive_indexes.get(block.series),
                    policy,
                    now_ms=clock_ms,
                )
            except FleetError as error:
                self._archive_fault = error
        if not policy.may_rest:
            raise self._archive_fault
        told = f"{self._archive_fault.reason}; REST instead"
        led.runs.record(led.run, Record(Level.REPORT, told, source="archive"))
        return assign_sources(block, parts, _NOTHING, policy, now_ms=clock_ms)

    def _policy(self, held: SeriesHoldings) -> Policy:
        if self._policy_of is None or self._policy_of[0] != held.series:
            parts = missing(held.series, held.spans, self._led.request.span)
            self._policy_of = (
                held.series,
                policy_for(self._led.services, self._led.request, held.series, parts),
            )
        return self._policy_of[1]


class _Nothing:
    """The shelf of an archive that does not answer."""

    def monthly(self) -> list[str]:
        return []

    def daily(self, month: str) -> list[str]:
        return []


_NOTHING = _Nothing()

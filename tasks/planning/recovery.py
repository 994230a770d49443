"""Resends a run's lost work, ahead of all waiting work: it has waited before.

Work whose worker was killed three times is not sent again: it has failed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from klinefleet.tasks.planning.run_context import RunContext
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.lost_work import LostWorkDetector, SentWork
from klinefleet.tasks.runs.poison import (
    MAX_LOSSES,
    cause_of_deaths,
    may_die_again,
    may_get_lost_again,
)
from klinefleet.tasks.runs.progress import Phase
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.coordination.leases import dead_holders
from klinefleet.workers.domain.queues import COMPACT, queue_of
from klinefleet.workers.domain.redis_keys import compact_lease, fetch_lease
from klinefleet.workers.domain.series import Partition, Window

logger = logging.getLogger(__name__)


class Recovery:
    """Finds and resends the work of one run that killed workers have left."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._detector = LostWorkDetector(
            context.services.redis, interval_s=context.limits.lost_work_interval_s
        )

    def resend_lost_work(self) -> None:
        """Resend work that no message and no living worker holds; skip if the last check is recent.

        The run's state is reconciled first.
        """
        if not self._detector.is_due:
            return
        in_flight = self._context.runs.partitions.reconcile(self._context.run)
        sent: dict[SentWork, Window | Partition] = {
            SentWork(fetch_lease(window), queue_of(window), sent_us): window
            for window, sent_us in in_flight.windows.items()
        }
        for partition, state in in_flight.partitions.items():
            if state.phase is Phase.COMPACTING:
                sent[SentWork(compact_lease(partition), COMPACT, state.sent_us)] = partition
        if lost := self._detector.find_lost(sent):
            reasons = self._reasons_to_give_up(lost, sent)
            for work, reason in reasons.items():
                self._fail(sent[work], reason)
            if again := lost - reasons.keys():
                self._resend([sent[work] for work in again], min(work.sent_us for work in again))

    def _reasons_to_give_up(
        self, lost: set[SentWork], sent: Mapping[SentWork, Window | Partition]
    ) -> dict[SentWork, str]:
        """Count the losses; return why work is not sent again, where it was lost too often."""
        context, reasons = self._context, dict[SentWork, str]()
        dead = dead_holders(context.services.redis, [work.lease for work in lost])
        for work in lost:
            name = str(sent[work])
            if work.lease in dead:
                if not may_die_again(context.runs, context.run, name):
                    reasons[work] = cause_of_deaths(context.services.redis, dead[work.lease])
            elif not may_get_lost_again(context.runs, context.run, name):
                reasons[work] = f"its message was lost {MAX_LOSSES} times (see the workers' logs)"
        return reasons

    def _fail(self, work: Window | Partition, reason: str) -> None:
        """Record work as failed, unless a worker has it after all."""
        logger.error("plan %s: %s failed: %s", self._context.run, work, reason)
        if isinstance(work, Window):
            self._fail_window(work, reason)
        else:
            self._fail_compaction(work, reason)

    def _fail_window(self, window: Window, reason: str) -> None:
        context = self._context
        with context.services.leases.hold(fetch_lease(window)) as lease:
            if lease is None:
                return
            finished = context.runs.partitions.finish_window(
                context.run,
                window,
                {"windows_failed": 1},
                records=[Record.for_window(Level.FAILED, window, reason)],
            )
        if finished.is_last:
            enqueue.send_compact(context.run, window.partition, finished.sent_us)

    def _fail_compaction(self, partition: Partition, reason: str) -> None:
        context, partitions = self._context, self._context.runs.partitions
        record = Record.for_partition(Level.FAILED, partition, reason)
        with context.services.leases.hold(compact_lease(partition)) as lease:
            if lease and partitions.begin_compaction(context.run, partition, lease.fence):
                partitions.close(context.run, partition, lease.fence, {}, records=[record])

    def _resend(self, lost: list[Window | Partition], oldest_us: int) -> None:
        """Send windows and compactions to the front of their queues.

        The messages carry the oldest `sent_us` of them all. With a newer one at the front, all
        waiting work behind it would look as if it had been taken.
        """
        context = self._context
        windows = sorted(work for work in lost if isinstance(work, Window))
        partitions = sorted(work for work in lost if isinstance(work, Partition))
        logger.warning(
            "plan %s: resending %d windows and %d compactions that were lost",
            context.run,
            len(windows),
            len(partitions),
        )
        context.runs.partitions.mark_sent(context.run, windows, partitions)
        enqueue.send_fetch(context.run, windows, oldest_us, first=True)
        for partition in partitions:
            enqueue.send_compact(context.run, partition, oldest_us, first=True)

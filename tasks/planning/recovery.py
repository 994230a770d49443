"""Resends a run's lost work, ahead of all waiting work: it has waited before."""

from __future__ import annotations

import logging

from klinefleet.tasks.planning.run_context import RunContext
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.lost_work import LostWorkDetector, SentWork
from klinefleet.tasks.runs.progress import Phase
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
            self._resend([sent[work] for work in lost], min(work.sent_us for work in lost))

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

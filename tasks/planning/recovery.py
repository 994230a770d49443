"""Lost work of a run is sent again, before all that waits: it has waited before."""

from __future__ import annotations

import logging

from klinefleet.tasks.planning.led import LedRun
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.lost_work import LostWork, Sent
from klinefleet.tasks.runs.progress import Phase
from klinefleet.workers.domain.queues import COMPACT, queue_of
from klinefleet.workers.domain.redis_keys import compact_lease, fetch_lease
from klinefleet.workers.domain.series import Block, Window

logger = logging.getLogger(__name__)


class Recovery:
    """Looks now and then for what killed workers and lost messages have left of a run's work."""

    def __init__(self, led: LedRun) -> None:
        self._led = led
        self._lost = LostWork(led.services.redis, interval_s=led.limits.lost_work_interval_s)

    def send_lost_again(self) -> None:
        """Send again what no message and no living worker holds; does nothing where the last look
        was just now.
        """
        if not self._lost.is_due:
            return
        led = self._led
        under_way = led.runs.blocks.under_way(led.run)
        sent: dict[Sent, Window | Block] = {
            Sent(fetch_lease(window), queue_of(window), sent_us): window
            for window, sent_us in under_way.windows.items()
        }
        for block, told in under_way.blocks.items():
            if told.phase is Phase.COMPACTING:
                sent[Sent(compact_lease(block), COMPACT, told.sent_us)] = block
        if lost := self._lost.among(sent):
            self._send({sent[one]: one.sent_us for one in lost})

    def _send(self, lost: dict[Window | Block, int]) -> None:
        """Send again what was last sent at these Redis µs; the messages keep that, and so hide
        nothing behind them.
        """
        led, since_us = self._led, min(lost.values())
        windows = sorted(what for what in lost if isinstance(what, Window))
        blocks = sorted(what for what in lost if isinstance(what, Block))
        logger.warning(
            "plan %s: %d windows and %d compactions were lost with their worker: sent again",
            led.run, len(windows), len(blocks),
        )  # fmt: skip
        led.runs.blocks.note_sent(led.run, windows, blocks)
        enqueue.send_fetch(led.run, windows, since_us, first=True)
        for block in blocks:
            enqueue.send_compact(led.run, block, since_us, first=True)

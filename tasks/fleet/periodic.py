"""What a lane does beside its tasks, again and again, in a thread of its own: it never holds the
heartbeat up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Pause between two rounds, seconds.
PAUSE_S = 2.0


def run_periodically(
    chores: list[Callable[[], None]],
    stopped: threading.Event | None = None,
    pause_s: float = PAUSE_S,
) -> None:
    """Do all chores, pause, and begin again until `stopped` is set; one that fails waits for the
    next round.
    """
    stopped = stopped or threading.Event()
    while not stopped.is_set():
        for chore in chores:
            try:
                chore()
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the next round comes
                logger.warning("chores: %s: %s; trying again", type(error).__name__, error)
        stopped.wait(pause_s)

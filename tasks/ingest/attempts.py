"""Which errors of a window are worth another try, and what its tries cost."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from tenacity import RetryCallState

from klinefleet.workers.domain.errors import (
    ChecksumMismatch,
    FleetError,
    MustWait,
    OverWeight,
    Refused,
    SettingsError,
    Transient,
)
from klinefleet.workers.services import Services
from klinefleet.workers.support import metrics

#: Refusals that name our own parameters (-1121 unknown symbol and the like): asking again gives the
#: same.
_OUR_FAULT = range(-1199, -1099)


def pause_or_stop(services: Services, what: str, seconds: float) -> None:
    if services.stop.wait(seconds):
        raise OverWeight(f"{what}: this worker was told to stop; nothing was kept")


class Tally:
    """Counts of one window, added to by its pages' threads."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self._lock = threading.Lock()

    def add(self, **amounts: int) -> None:
        with self._lock:
            self.counts.update(amounts)

    def failed(self, error: FleetError, source: str) -> None:
        """Count a try that failed."""
        self.add(retries=1)
        metrics.RETRIES.add(source=source, reason=type(error).__name__)


def is_wait(error: BaseException) -> bool:
    """Whether the exchange told us to wait; the next try waits in the budget, for all of us at
    once.
    """
    return isinstance(error, MustWait) and not isinstance(error, OverWeight)


def give_up_waiting(state: RetryCallState) -> Any:
    error = state.outcome.exception() if state.outcome else None
    raise OverWeight(f"the exchange kept telling us to wait: {error}") from error


def archive_may_recover(error: BaseException) -> bool:
    """Whether the archive may answer otherwise in a moment: a file being replaced does not fit its
    CHECKSUM.
    """
    return isinstance(error, Transient | ChecksumMismatch)


def rest_may_recover(error: BaseException) -> bool:
    if isinstance(error, Refused):
        return error.code not in _OUR_FAULT
    if isinstance(error, SettingsError):
        return False
    return isinstance(error, FleetError) and not isinstance(error, MustWait)

"""Which errors of a window are worth another try, and the counts of its tries."""

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

#: Error codes that refuse our own parameters, like -1121 for an unknown symbol: another try gets
#: the same answer.
_PARAMETER_ERRORS = range(-1199, -1099)


class WindowCounts:
    """Counts of one window. The threads of its pages add to them."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self._lock = threading.Lock()

    def add(self, **amounts: int) -> None:
        with self._lock:
            self.counts.update(amounts)

    def add_failed_try(self, error: FleetError, source: str) -> None:
        self.add(retries=1)
        metrics.RETRIES.add(source=source, reason=type(error).__name__)


def pause_or_stop(services: Services, subject: str, seconds: float) -> None:
    """Sleep before the next try; OverWeight if this worker is shutting down."""
    if services.stop.wait(seconds):
        raise OverWeight(f"{subject}: this worker is shutting down; nothing was kept")


def is_wait(error: BaseException) -> bool:
    """Return True if the exchange said to wait: the budget then makes all workers wait."""
    return isinstance(error, MustWait) and not isinstance(error, OverWeight)


def give_up_waiting(state: RetryCallState) -> Any:
    """Raise OverWeight with the last error: the exchange said to wait for too long."""
    error = state.outcome.exception() if state.outcome else None
    raise OverWeight(f"the exchange kept answering that we must wait: {error}") from error


def archive_may_recover(error: BaseException) -> bool:
    """Return True if another try may succeed.

    A file that is just being replaced does not match its CHECKSUM for a moment.
    """
    return isinstance(error, Transient | ChecksumMismatch)


def rest_may_recover(error: BaseException) -> bool:
    """Return True if another try may succeed; waits that the exchange imposes are no tries."""
    if isinstance(error, Refused):
        return error.code not in _PARAMETER_ERRORS
    if isinstance(error, SettingsError):
        return False
    return isinstance(error, FleetError) and not isinstance(error, MustWait)

"""The count of USD-M's funding calls, by address and five calendar minutes, not weight."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from deploy.simulator.books import KEPT_MINUTES, Verdict
from deploy.simulator.markets import FUNDING_CALLS, FUNDING_MINUTES
from deploy.simulator.moments import MINUTE_MS

STRETCH_MS = FUNDING_MINUTES * MINUTE_MS


@dataclass(slots=True)
class Stretch:
    """What one address asked in five minutes from `minute_ms` on."""

    address: str
    minute_ms: int
    limit: int = FUNDING_CALLS
    calls: int = 0
    refused: int = 0


class FundingBooks:
    """Counts every call at its arrival and says whether it may pass."""

    def __init__(self) -> None:
        self._stretches: OrderedDict[tuple[str, int], Stretch] = OrderedDict()

    def count(self, address: str, now_ms: int) -> Verdict:
        """Count a call that has arrived and return whether it may pass."""
        begins_ms = now_ms - now_ms % STRETCH_MS
        stretch = self._stretches.setdefault((address, begins_ms), Stretch(address, begins_ms))
        if len(self._stretches) > KEPT_MINUTES:
            self._stretches.popitem(last=False)
        stretch.calls += 1
        if stretch.calls <= stretch.limit:
            return Verdict(HTTPStatus.OK, 0)
        stretch.refused += 1
        return Verdict(HTTPStatus.TOO_MANY_REQUESTS, 0, begins_ms + STRETCH_MS)

    def stretches(self) -> list[dict[str, Any]]:
        """Return every stretch still held, oldest first."""
        return [asdict(stretch) for stretch in self._stretches.values()]

    def forget(self) -> None:
        """Start the count anew."""
        self._stretches.clear()

"""Where candles of an interval open: an index for every candle, and the moment it opens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from deploy.simulator.moments import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

#: The first Monday after the epoch: weeks open on Mondays.
MONDAY_PHASE_MS = 4 * DAY_MS


@dataclass(frozen=True, slots=True)
class FixedGrid:
    """Candles of one length, opening `phase_ms` after the multiples of that length."""

    step_ms: int
    phase_ms: int = 0

    def index_at(self, moment_ms: int) -> int:
        """Return the index of the candle that holds this moment."""
        return (moment_ms - self.phase_ms) // self.step_ms

    def open_of(self, index: int) -> int:
        """Return the moment the candle with this index opens."""
        return index * self.step_ms + self.phase_ms


@dataclass(frozen=True, slots=True)
class MonthGrid:
    """Candles that open on the first of every month; the index counts months since 1970."""

    def index_at(self, moment_ms: int) -> int:
        """Return the index of the month that holds this moment."""
        moment = datetime.fromtimestamp(moment_ms // SECOND_MS, UTC)
        return (moment.year - 1970) * 12 + moment.month - 1

    def open_of(self, index: int) -> int:
        """Return the first moment of the month with this index."""
        return (
            int(datetime(1970 + index // 12, index % 12 + 1, 1, tzinfo=UTC).timestamp()) * SECOND_MS
        )


Grid = FixedGrid | MonthGrid

GRIDS: dict[str, Grid] = {
    "1s": FixedGrid(SECOND_MS),
    **{f"{n}m": FixedGrid(n * MINUTE_MS) for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": FixedGrid(n * HOUR_MS) for n in (1, 2, 4, 6, 8, 12)},
    "1d": FixedGrid(DAY_MS),
    "3d": FixedGrid(3 * DAY_MS),
    "1w": FixedGrid(7 * DAY_MS, MONDAY_PHASE_MS),
    "1M": MonthGrid(),
}

"""What the archive has published of a series, and policies of requests, for tests of the choice."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.sources.policy import Mode, Policy

NOW_MS = utc_ms(2024, 6, 15)
FILES, BOTH, REST = Policy(Mode.ARCHIVE, 40.0), Policy(Mode.AUTO, 40.0), Policy(Mode.REST, 40.0)
ALL_MONTHS = [f"2024-{month:02}" for month in range(1, 13)]
#: The days of March.
ALL_DAYS = [f"2024-03-{day:02}" for day in range(1, 32)]


@dataclass
class FakeArchiveIndex:
    """What is published, and what was asked."""

    months: Collection[str] = ()
    days: Collection[str] = ()
    asked: list[str] = field(default_factory=list)

    def monthly(self) -> Collection[str]:
        self.asked.append("monthly")
        return self.months

    def daily(self, month: str) -> Collection[str]:
        self.asked.append(month)
        return [day for day in self.days if day.startswith(month)]

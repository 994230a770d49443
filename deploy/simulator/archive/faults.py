"""Which files are wrong, and how: a pure function of the file's path and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from deploy.simulator.archive.names import Cycle, File

#: What a sum of fractions may be over by.
ROUNDING = 1e-9


class FileFault(StrEnum):
    """Every way a file can be wrong."""

    CORRUPT = "corrupt"
    TRANSIENT_CORRUPT = "transient_corrupt"
    DAMAGED_ZIP = "damaged_zip"
    WRONG_MEMBER = "wrong_member"
    NO_CHECKSUM = "no_checksum"
    TRUNCATED = "truncated"
    LATE = "late"
    ABSENT = "absent"
    SHORT = "short"
    SHUFFLED = "shuffled"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"
    STALE = "stale"
    FAULTY = "faulty"
    """Some rows have a low price that is none."""
    FIELD_SHORT = "field_short"
    """One line lacks its last field."""


@dataclass(frozen=True, slots=True)
class FilePlan:
    """How often each fault strikes, of which files, and what befalls the whole archive."""

    rates: Mapping[FileFault, float] = field(default_factory=dict)
    seed: int = 0
    only: Cycle | None = None
    late_days: float = 4.0
    #: Every answer, also of the listing, has this status in place of a good one.
    status: int | None = None

    def __post_init__(self) -> None:
        if any(rate < 0 for rate in self.rates.values()) or sum(self.rates.values()) > 1 + ROUNDING:
            raise ValueError(
                f"rates were {dict(self.rates)}; none may be negative and their sum at most 1"
            )
        if self.late_days < 0:
            raise ValueError(f"late_days was {self.late_days}; it must not be negative")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError(f"status was {self.status}; it must be one of an error")

    def fault_of(self, file: File) -> FileFault | None:
        """Return what is wrong with a file; only a month's can be stale."""
        # Listings ask this of every file.
        if not self.rates or (self.only is not None and file.folder.cycle is not self.only):
            return None
        at = Random(f"{self.seed} {file.path}").random()
        for fault, rate in self.rates.items():
            at -= rate
            if at < 0:
                return (
                    None if fault is FileFault.STALE and file.folder.cycle is Cycle.DAILY else fault
                )
        return None

"""Which sources a request may use, and how fast REST is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from klinefleet.workers.domain.paging import pages
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span

#: Seconds that a file costs its lane: two requests (file, CHECKSUM) of 0.2 s each, fifty at once.
FILE_S = 0.01


class Mode(StrEnum):
    """Which sources a request allows."""

    AUTO = "auto"
    ARCHIVE = "archive"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which sources one series of a request may use, and the weight REST can spend in a second."""

    mode: Mode
    weight_per_s: float
    is_small: bool = False
    """Whether so little is missing, in all or of this series, that REST answers it at once."""
    has_rest: bool = True
    """Whether REST answers and has the symbol; a delisted one may be in the archive alone."""

    @property
    def may_rest(self) -> bool:
        return self.mode is not Mode.ARCHIVE and self.has_rest

    @property
    def may_use_files(self) -> bool:
        return self.mode is not Mode.REST

    @property
    def is_rest_only(self) -> bool:
        return self.mode is Mode.REST or (
            self.has_rest and self.mode is Mode.AUTO and self.is_small
        )

    def prefers_files(self, files: int, series: Series, parts: Iterable[Span]) -> bool:
        """Return True if so many files are fetched sooner than `parts` by REST."""
        return not self.may_rest or files * FILE_S <= self.rest_s(series, parts)

    def rest_s(self, series: Series, parts: Iterable[Span]) -> float:
        """Return the seconds of the weight budget that `parts` take by REST."""
        weight = sum(page.weight for part in parts for page in pages(series, part))
        return weight / self.weight_per_s

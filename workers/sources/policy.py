"""What a request may ask of which source, and how fast REST is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from klinefleet.workers.domain.paging import pages
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span

#: What a file costs its lane: itself and its CHECKSUM, at the archive's usual 0.2 s each, fifty at
#: a time; seconds.
FILE_S = 0.01


class Mode(StrEnum):
    """Which sources a request allows."""

    AUTO = "auto"
    ARCHIVE = "archive"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be asked, and what REST can do in a second."""

    mode: Mode
    weight_per_s: float
    is_small: bool = False
    """Whether so little is wanted, in all or of this series, that REST answers it at once."""
    is_listed: bool = True
    """Whether REST knows the symbol; of one that it has forgotten only the archive tells."""

    @property
    def may_rest(self) -> bool:
        return self.mode is not Mode.ARCHIVE and self.is_listed

    @property
    def is_rest_only(self) -> bool:
        return self.mode is Mode.REST or (
            self.is_listed and self.mode is Mode.AUTO and self.is_small
        )

    def prefers_files(self, files: int, series: Series, parts: Iterable[Span]) -> bool:
        """Return whether so many files are done with sooner than REST with `parts`."""
        return not self.may_rest or files * FILE_S <= self.rest_s(series, parts)

    def rest_s(self, series: Series, parts: Iterable[Span]) -> float:
        """Return the seconds of the weight budget that REST takes for `parts`."""
        return (
            sum(page.weight for part in parts for page in pages(series, part)) / self.weight_per_s
        )

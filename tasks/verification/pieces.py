"""A piece of a verification, some months of a series, and what was found in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from klinefleet.tasks.verification.compare import NO_SAMPLE, Against, Sample, compare
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.queues import ARCHIVE, COMPACT, rest_queue
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import Fault, What
from klinefleet.workers.lake.integrity import Checked, check
from klinefleet.workers.services import Services


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task checks: some months of a series."""

    series: Series
    months: tuple[str, ...]
    sample: Sample = NO_SAMPLE
    sure: str = ""
    """The month of which at least one day is compared with the source, whatever the sample's share.
    """

    def __str__(self) -> str:
        return f"{self.series}/{self.months[0]}..{self.months[-1]}"

    def arguments(self) -> list[Any]:
        """Return it as a message carries it."""
        sample = self.sample
        return [
            str(self.series),
            list(self.months),
            str(sample.against),
            sample.share,
            sample.seed,
            self.sure,
        ]

    @classmethod
    def of(
        cls,
        series: str,
        months: list[str],
        against: str = Against.NOTHING,
        share: float = 0.0,
        seed: int = 0,
        sure: str = "",
        *_later: Any,
    ) -> Piece:
        """Return the piece that `arguments` told; what a later version adds at their end is
        ignored.
        """
        return cls(Series.parse(series), tuple(months), Sample(Against(against), share, seed), sure)


@dataclass(slots=True)
class Found:
    """What came of partitions that were checked."""

    partitions: int = 0
    rows: int = 0
    unproved: int = 0
    """Partitions of an earlier version, without a proof: a lost row cannot be told from the
    exchange's own gap.
    """
    compared: int = 0
    """Rows that were compared with the source."""
    faults: list[Fault] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    """What could not be compared because the source does not have it."""
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be checked: the store or the source did not answer."""

    def add(self, other: Found) -> None:
        """Add what came of others."""
        for name in ("partitions", "rows", "unproved", "compared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults = sorted([*self.faults, *other.faults], key=lambda fault: fault.key)
        self.told |= other.told
        self.failed |= other.failed

    def to_json(self, piece: str) -> str:
        """Return it as Redis keeps it, with the name of the piece it came of."""
        return json.dumps(
            asdict(self) | {"piece": piece, "faults": [fault.facts() for fault in self.faults]}
        )

    @classmethod
    def of_json(cls, text: str) -> tuple[str, Found]:
        """Return the piece and what came of it, as `to_json` of this version or another told them."""
        told = json.loads(text)
        faults = [
            Fault(
                f["key"],
                What(f["what"]),
                Span(*f["span"]) if f.get("span") else None,
                f.get("rows", 0),
                f["told"],
            )
            for f in told.get("faults", [])
        ]
        known = {name: told[name] for name in (f.name for f in fields(cls)) if name in told}
        return told["piece"], cls(**{**known, "faults": faults})


def queue_of(piece: Piece) -> str:
    """Return the queue that checks a piece: what waits for a source's answers must not hold up
    compactions.
    """
    if piece.sample.against is Against.REST:
        return rest_queue(piece.series.kind.pool(piece.series.market))
    return ARCHIVE if piece.sample.against is Against.ARCHIVE else COMPACT


def verify_piece(services: Services, piece: Piece) -> Found:
    """Return what is wrong with a piece's partitions; a month that has none (any more) is no fault."""
    found, series = Found(), piece.series
    for month in piece.months:
        key = keys.partition(series, month)
        try:
            body = services.partitions.body(series, month)
        except FleetError as error:
            found.failed[key] = error.reason
            continue
        if body is not None:
            _count(found, checked := check(series, month, body))
            if piece.sample.against is not Against.NOTHING:
                _compare(services, found, piece, month, checked)
    return found


def _count(found: Found, checked: Checked) -> None:
    found.partitions += 1
    found.rows += 0 if checked.rows is None else checked.rows.height
    found.unproved += checked.footer is not None and checked.footer.proof is None
    found.faults += checked.faults


def _compare(services: Services, found: Found, piece: Piece, month: str, checked: Checked) -> None:
    done = compare(services, piece.series, month, checked, piece.sample, sure=month == piece.sure)
    found.compared += done.rows
    found.faults += done.faults
    found.told |= done.told
    found.failed |= done.failed

"""Pieces of a verification (some partitions of a series each), and what is found in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from klinefleet.tasks.runs.enqueue import task_label
from klinefleet.tasks.verification.compare import NO_SAMPLE, Reference, Sample, compare
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.queues import ARCHIVE, COMPACT, rest_queue
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.faults import Fault, What
from klinefleet.workers.lake.integrity import Checked, check
from klinefleet.workers.services import Services

#: Counts of findings, which are added up.
_COUNTS = ("partitions", "rows", "unproved", "compared")


@dataclass(frozen=True, slots=True)
class VerificationPiece:
    """Some partitions of a series, checked by one task."""

    series: Series
    periods: tuple[str, ...]
    sample: Sample = NO_SAMPLE
    compared_period: str = ""
    """The period of which at least one day is compared, however small the sample's share."""

    def __str__(self) -> str:
        return f"{self.series}/{self.periods[0]}..{self.periods[-1]}"

    @property
    def task(self) -> str:
        return "klines.verify"

    @property
    def queue(self) -> str:
        """Its queue: waits for a source's answers must not hold up compactions."""
        match self.sample.reference:
            case Reference.REST:
                return rest_queue(self.series.kind.pool(self.series.market))
            case Reference.ARCHIVE:
                return ARCHIVE
            case _:
                return COMPACT

    @property
    def label(self) -> str:
        """What Flower shows of it."""
        periods, sample = f"{self.periods[0]}..{self.periods[-1]}", self.sample
        is_compared = sample.reference is not Reference.NONE
        compared = f", {sample.share:.2%} against {sample.reference}" if is_compared else ""
        return f"{task_label(Partition(self.series, periods))}{compared}"

    @property
    def partitions(self) -> list[Partition]:
        return [Partition(self.series, period) for period in self.periods]

    def to_arguments(self) -> list[Any]:
        """Return the piece as the arguments of its task, plain values."""
        return [
            str(self.series),
            list(self.periods),
            str(self.sample.reference),
            self.sample.share,
            self.sample.seed,
            self.compared_period,
        ]

    @classmethod
    def from_arguments(
        cls,
        series: str,
        periods: list[str],
        reference: str = Reference.NONE,
        share: float = 0.0,
        seed: int = 0,
        compared_period: str = "",
        *_: Any,
    ) -> VerificationPiece:
        """Return the piece of a task's arguments; what a later version appends is ignored."""
        sample = Sample(Reference(reference), share, seed)
        return cls(Series.parse(series), tuple(periods), sample, compared_period)


@dataclass(slots=True)
class Findings:
    """What was found in partitions that were checked."""

    partitions: int = 0
    rows: int = 0
    unproved: int = 0
    """Partitions that an earlier version wrote without a proof.

    In these a lost row cannot be told from a gap of the exchange.
    """
    compared: int = 0
    """Rows that were compared with the source."""
    faults: list[Fault] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)
    """What could not be compared because the source does not have it: name → reason."""
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be checked because the store or the source failed: name → reason."""

    def add(self, other: Findings) -> None:
        """Add the findings in other partitions."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults = sorted([*self.faults, *other.faults], key=lambda fault: fault.key)
        self.not_compared |= other.not_compared
        self.failed |= other.failed

    def to_json(self, piece: str) -> str:
        """Return the findings as Redis keeps them, with the name of their piece."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        fields["faults"] = [fault.facts() for fault in self.faults]
        return json.dumps(
            fields | {"told": self.not_compared, "failed": self.failed, "piece": piece}
        )

    @classmethod
    def from_json(cls, text: str) -> tuple[str, Findings]:
        """Return the name of a piece, and its findings.

        Other versions may have written more fields or fewer.
        """
        fields = json.loads(text)
        findings = cls(
            **{name: fields[name] for name in _COUNTS if name in fields},
            faults=[_parse_fault(fault) for fault in fields.get("faults", [])],
            not_compared=fields.get("told", {}),
            failed=fields.get("failed", {}),
        )
        return fields["piece"], findings


def _parse_fault(fields: dict[str, Any]) -> Fault:
    span = Span(*fields["span"]) if fields.get("span") else None
    return Fault(fields["key"], What(fields["what"]), span, fields.get("rows", 0), fields["told"])


def verify_piece(services: Services, piece: VerificationPiece) -> Findings:
    """Return what is found in a piece's partitions. One that is gone is no fault."""
    findings = Findings()
    for partition in piece.partitions:
        try:
            body = services.partitions.body(partition)
        except FleetError as error:
            findings.failed[keys.partition(partition)] = error.reason
            continue
        if body is None:
            continue
        checked = check(partition, body)
        _add_checked(findings, checked)
        if piece.sample.reference is not Reference.NONE:
            _add_comparison(services, findings, piece, partition, checked)
    return findings


def _add_checked(findings: Findings, checked: Checked) -> None:
    findings.partitions += 1
    findings.rows += 0 if checked.rows is None else checked.rows.height
    findings.unproved += checked.footer is not None and checked.footer.proof is None
    findings.faults += checked.faults


def _add_comparison(
    services: Services,
    findings: Findings,
    piece: VerificationPiece,
    partition: Partition,
    checked: Checked,
) -> None:
    comparison = compare(
        services,
        partition,
        checked,
        piece.sample,
        at_least_one=partition.period == piece.compared_period,
    )
    findings.compared += comparison.rows
    findings.faults += comparison.faults
    findings.not_compared |= comparison.not_compared
    findings.failed |= comparison.failed

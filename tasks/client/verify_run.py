"""Runs a verification's pieces: in this process, or by the fleet while this process waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from klinefleet.tasks.client.job import Job, work_by_fleet, work_here
from klinefleet.tasks.client.progress_bar import ProgressDisplay
from klinefleet.tasks.verification.pieces import Findings, VerificationPiece, verify_piece
from klinefleet.workers.services import Services

#: How pieces are checked: `check_here` or `check_by_fleet`.
Check = Callable[[Services, Sequence[VerificationPiece], ProgressDisplay], Findings]


def check_here(
    services: Services, pieces: Sequence[VerificationPiece], display: ProgressDisplay
) -> Findings:
    """Check the pieces in this process and return the findings."""
    return work_here(services, _job(pieces, display))


def check_by_fleet(
    services: Services,
    pieces: Sequence[VerificationPiece],
    display: ProgressDisplay,
    **options: Any,
) -> Findings:
    """Have workers check the pieces and return the findings; options of `work_by_fleet`."""
    return work_by_fleet(services, _job(pieces, display), display, **options)


def _job(
    pieces: Sequence[VerificationPiece], display: ProgressDisplay
) -> Job[VerificationPiece, Findings]:
    total = sum(len(piece.periods) for piece in pieces)

    def show(found: Findings) -> None:
        display.show(found.partitions, total, "verify: ", lambda: progress_line(found, total))

    return Job(pieces, verify_piece, Findings(), Findings.from_json, show)


def progress_line(findings: Findings, total: int) -> str:
    """Return a verification's progress in one line."""
    compared = f", {findings.compared:,} compared" if findings.compared else ""
    return (
        f"{findings.partitions:,}/{total:,} partitions, {findings.rows:,} rows{compared}, "
        f"{len(findings.faults):,} faults"
    )

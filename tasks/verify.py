"""klines.verify: reads some partitions of a series again and records what is wrong with them."""

from __future__ import annotations

from typing import Any

from klinefleet.tasks.jobs.work import work_piece
from klinefleet.tasks.verification.pieces import VerificationPiece, verify_piece
from klinefleet.workers.app import app
from klinefleet.workers.services import Services


@app.task(name="klines.verify", bind=True)  # type: ignore[untyped-decorator]
def verify(self: Any, job: str, *arguments: Any) -> None:
    """Check one piece and record its findings; do nothing if no command waits for it."""
    services: Services = self.app.services
    piece = VerificationPiece.from_arguments(*arguments)
    work_piece(services, job, str(piece), lambda: verify_piece(services, piece).to_json(str(piece)))

"""Sends the pieces of a verification to the fleet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from klinefleet.tasks.runs.enqueue import send, task_label
from klinefleet.tasks.verification.compare import Against
from klinefleet.tasks.verification.pieces import Piece, queue_of
from klinefleet.workers.app import app
from klinefleet.workers.domain.series import Block


class SendPieces(Protocol):
    """Sends pieces of the verification `check`."""

    def __call__(
        self, check: str, pieces: Sequence[Piece], sent_us: int, *, first: bool = False
    ) -> None: ...


def send_pieces(check: str, pieces: Iterable[Piece], sent_us: int, *, first: bool = False) -> None:
    """Have pieces checked, in one batch; a copy sent twice is told once. `first`: before all that
    waits.

    The first counts as sent at `sent_us`, Redis µs, each of the others a microsecond later.
    """
    with app.producer_or_acquire() as producer, producer.batch():
        for number, piece in enumerate(pieces):
            sample, months = (
                piece.sample,
                Block(piece.series, f"{piece.months[0]}..{piece.months[-1]}"),
            )
            against = (
                f", {sample.share:.2%} against {sample.against}"
                if sample.against is not Against.NOTHING
                else ""
            )
            shows = f"{task_label(months)}{against}, check {check}"
            args = [check, *piece.arguments()]
            send(
                "klines.verify",
                args,
                queue_of(piece),
                shows,
                sent_us + number,
                first=first,
                producer=producer,
            )

"""Sends the pieces of a verification to the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from klinefleet.tasks.runs.enqueue import send, task_label
from klinefleet.tasks.verification.compare import Reference
from klinefleet.tasks.verification.pieces import Piece, piece_queue
from klinefleet.workers.app import app
from klinefleet.workers.domain.series import Block


class SendPieces(Protocol):
    """Sends pieces of a verification."""

    def __call__(
        self, verification: str, pieces: Sequence[Piece], sent_us: int, *, first: bool = False
    ) -> None: ...


def send_pieces(
    verification: str, pieces: Sequence[Piece], sent_us: int, *, first: bool = False
) -> None:
    """Send pieces to their queues in one batch; with `first` ahead of all that waits there.

    The first piece counts as sent at `sent_us`, Redis µs, each other a microsecond after the one
    before. A piece that is sent twice is recorded once.
    """
    with app.producer_or_acquire() as producer, producer.batch():
        for number, piece in enumerate(pieces):
            send(
                "klines.verify",
                [verification, *piece.to_arguments()],
                piece_queue(piece),
                _label(verification, piece),
                sent_us + number,
                first=first,
                producer=producer,
            )


def _label(verification: str, piece: Piece) -> str:
    """Return what Flower shows of a piece."""
    months = Block(piece.series, f"{piece.months[0]}..{piece.months[-1]}")
    sample = piece.sample
    is_compared = sample.reference is not Reference.NONE
    compared = f", {sample.share:.2%} against {sample.reference}" if is_compared else ""
    return f"{task_label(months)}{compared}, verification {verification}"

"""Sends the pieces of a job to the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from klinefleet.tasks.jobs.piece import Piece
from klinefleet.tasks.runs.enqueue import send
from klinefleet.workers.app import app


class SendPieces(Protocol):
    """Sends pieces of a job."""

    def __call__(
        self, job: str, pieces: Sequence[Piece], sent_us: int, *, first: bool = False
    ) -> None: ...


def send_pieces(job: str, pieces: Sequence[Piece], sent_us: int, *, first: bool = False) -> None:
    """Send pieces to their queues in one batch; with `first` ahead of all that waits there.

    The first piece counts as sent at `sent_us`, Redis µs, each other a microsecond after the one
    before. A piece that is sent twice is recorded once.
    """
    with app.producer_or_acquire() as producer, producer.batch():
        for number, piece in enumerate(pieces):
            send(
                piece.task,
                [job, *piece.to_arguments()],
                piece.queue,
                f"{piece.label}, job {job}",
                sent_us + number,
                first=first,
                producer=producer,
            )

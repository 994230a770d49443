"""Run a verification's pieces: in this process, or by the fleet while this process waits."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed

from kombu.exceptions import OperationalError
from redis import RedisError

from klinefleet.tasks.client.follow import REDIS_AWAY_S
from klinefleet.tasks.client.progress_bar import ProgressDisplay
from klinefleet.tasks.runs.lost_work import CHECK_INTERVAL_S, LostWorkDetector, SentWork
from klinefleet.tasks.verification.enqueue import SendPieces, send_pieces
from klinefleet.tasks.verification.pieces import Findings, Piece, piece_queue, verify_piece
from klinefleet.tasks.verification.state import Verifications
from klinefleet.workers.app import connect
from klinefleet.workers.domain.errors import RunLost
from klinefleet.workers.domain.redis_keys import check_lease
from klinefleet.workers.services import Services
from klinefleet.workers.support.threads import Threads

#: Most pieces sent and not yet done: bounds what Redis holds, however large the lake is.
PIECES_IN_FLIGHT = 200
#: Pieces checked at once in this process, which mostly waits for the store.
LOCAL_THREADS = 4
#: Times a piece is sent. One that was lost as often may be what kills its workers.
TRIES = 5
#: Seconds between two rounds of a fleet's verification.
POLL_S = 0.05
#: Seconds between two attempts while Redis does not answer.
REDIS_RETRY_S = 1.0

#: How pieces are checked: `check_here` or `check_by_fleet`.
Check = Callable[[Services, Sequence[Piece], ProgressDisplay], Findings]


def check_here(services: Services, pieces: Sequence[Piece], display: ProgressDisplay) -> Findings:
    """Check the pieces in this process and return the findings."""
    findings, total = Findings(), sum(len(piece.months) for piece in pieces)
    with Threads(LOCAL_THREADS, thread_name_prefix="check") as threads:
        futures = [threads.submit(verify_piece, services, piece) for piece in pieces]
        try:
            for future in as_completed(futures):
                findings.add(future.result())
                _show(display, findings, total)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return findings


def check_by_fleet(
    services: Services,
    pieces: Sequence[Piece],
    display: ProgressDisplay,
    *,
    send: SendPieces = send_pieces,
    lost_work_interval_s: float = CHECK_INTERVAL_S,
) -> Findings:
    """Have workers check the pieces and return the findings.

    Pieces of killed workers are sent again. RunLost if Redis stays away.
    """
    connect(services.settings)
    verification = _FleetVerification(services, pieces, send, lost_work_interval_s)
    last_answer = time.monotonic()
    try:
        while not verification.is_done:
            try:
                verification.advance()
                last_answer = time.monotonic()
            except (RedisError, OperationalError) as error:
                if time.monotonic() - last_answer > REDIS_AWAY_S:
                    raise RunLost(
                        f"Redis has been away for {REDIS_AWAY_S:.0f} s ({error}); verify again"
                    ) from error
                display.say("waiting for Redis, which does not answer")
                time.sleep(REDIS_RETRY_S)
            _show(display, verification.findings, verification.total)
            time.sleep(POLL_S)
    finally:
        verification.end()
    return verification.findings


class _FleetVerification:
    """A verification that this process leads, with a bounded number of pieces in flight."""

    def __init__(
        self,
        services: Services,
        pieces: Sequence[Piece],
        send: SendPieces,
        lost_work_interval_s: float,
    ) -> None:
        self.findings = Findings()
        self.total = sum(len(piece.months) for piece in pieces)
        self._services = services
        self._checks = Verifications(services.redis)
        self._check = self._checks.begin()
        self._waiting = deque(pieces)
        self._sent: dict[str, Piece] = {}
        self._tries = Counter[str]()
        self._send_pieces = send
        self._lost = LostWorkDetector(services.redis, interval_s=lost_work_interval_s)

    @property
    def is_done(self) -> bool:
        return not (self._waiting or self._sent)

    def advance(self) -> None:
        """Collect results, resend lost pieces, and send as many new ones as there is room for."""
        sent_us, results = self._checks.poll(self._check)
        for name, findings in map(Findings.from_json, results):
            if self._sent.pop(name, None):
                self.findings.add(findings)
        lost = self._lost_pieces(sent_us)
        resend = [
            piece for name, piece in self._sent.items() if name not in sent_us or name in lost
        ]
        for piece in resend:
            if self._tries[str(piece)] == TRIES:
                del self._sent[str(piece)]
                self.findings.failed[str(piece)] = (
                    f"given up: lost {TRIES} times with the worker that checked it"
                )
        room = min(len(self._waiting), PIECES_IN_FLIGHT - len(self._sent))
        oldest_us = min((sent_us[name] for name in lost), default=0)
        self._send([piece for piece in resend if str(piece) in self._sent], oldest_us)
        self._send([self._waiting.popleft() for _ in range(room)])

    def end(self) -> None:
        self._checks.end(self._check)

    def _send(self, pieces: list[Piece], first_sent_us: int | None = None) -> None:
        """Send pieces; resent ones, first sent at `first_sent_us`, Redis µs, go ahead of others."""
        if not pieces:
            return
        self._sent |= {str(piece): piece for piece in pieces}
        self._tries.update(map(str, pieces))
        now_us = self._checks.mark_sent(self._check, map(str, pieces))
        if first_sent_us is None:
            self._send_pieces(self._check, pieces, now_us, first=False)
        else:
            self._send_pieces(self._check, pieces, first_sent_us, first=True)

    def _lost_pieces(self, sent_us: dict[str, int]) -> set[str]:
        """Return the pieces that twice in a row no message and no live worker held."""
        if not self._lost.is_due:
            return set()
        names = {
            SentWork(
                check_lease(self._check, name), piece_queue(self._sent[name]), sent_us[name]
            ): name
            for name in sent_us.keys() & self._sent.keys()
        }
        return {names[sent] for sent in self._lost.find_lost(names)}


def _show(display: ProgressDisplay, findings: Findings, total: int) -> None:
    display.show(findings.partitions, total, "verify: ", lambda: progress_line(findings, total))


def progress_line(findings: Findings, total: int) -> str:
    """Return a verification's progress in one line."""
    compared = f", {findings.compared:,} compared" if findings.compared else ""
    return (
        f"{findings.partitions:,}/{total:,} partitions, {findings.rows:,} rows{compared}, "
        f"{len(findings.faults):,} faults"
    )

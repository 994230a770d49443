"""Has the lake's partitions checked, in pieces: by this process, or by the fleet while this process
looks on.
"""

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

#: Pieces that are sent and not done, at most: Redis holds no more of a verification, however large
#: the lake is.
PIECES_IN_FLIGHT = 200
#: Pieces that are checked at once where no fleet does it: a store's answers are waited for side by
#: side.
AT_ONCE = 4
#: Times a piece is sent; one that was lost as often is given up: it may be what its workers die of.
TRIES = 5

#: How pieces are checked: by this process, or by the fleet.
Check = Callable[[Services, Sequence[Piece], ProgressDisplay], Findings]


def check_here(services: Services, pieces: Sequence[Piece], shows: ProgressDisplay) -> Findings:
    """Return what came of the pieces, checked by this process."""
    found, total = Findings(), sum(len(piece.months) for piece in pieces)
    with Threads(AT_ONCE, thread_name_prefix="check") as threads:
        checked = [threads.submit(verify_piece, services, piece) for piece in pieces]
        try:
            for one in as_completed(checked):
                found.add(one.result())
                _show(shows, found, total)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def check_by_fleet(
    services: Services,
    pieces: Sequence[Piece],
    shows: ProgressDisplay,
    *,
    send: SendPieces = send_pieces,
    lost_work_interval_s: float = CHECK_INTERVAL_S,
) -> Findings:
    """Return what came of the pieces, checked by the workers; those of killed ones are sent again.

    RunLost where Redis stays away.
    """
    connect(services.settings)
    led = _FleetVerification(services, pieces, send, lost_work_interval_s)
    seen = time.monotonic()
    try:
        while led.goes_on:
            try:
                led.turn()
                seen = time.monotonic()
            except (RedisError, OperationalError) as error:
                if time.monotonic() - seen > REDIS_AWAY_S:
                    raise RunLost(
                        f"Redis has been away for {REDIS_AWAY_S:.0f} s ({error}); verify again"
                    ) from error
                shows.say("Redis does not answer; waiting for it")
                time.sleep(1.0)
            _show(shows, led.found, led.total)
            time.sleep(0.05)
    finally:
        led.end()
    return led.found


class _FleetVerification:
    """A verification that this process leads: a bounded number of pieces is sent, and more as they
    are done.
    """

    def __init__(
        self,
        services: Services,
        pieces: Sequence[Piece],
        send: SendPieces,
        lost_work_interval_s: float,
    ) -> None:
        self.found = Findings()
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
    def goes_on(self) -> bool:
        return bool(self._waiting or self._sent)

    def turn(self) -> None:
        """Take in what is done, send what there is room for, and send again what was lost."""
        still, told = self._checks.poll(self._check)
        for name, found in map(Findings.from_json, told):
            if self._sent.pop(name, None):
                self.found.add(found)
        lost = self._lost_of(still)
        again = [piece for name, piece in self._sent.items() if name not in still or name in lost]
        since_us = min((still[name] for name in lost), default=0)
        for piece in again:
            if self._tries[str(piece)] == TRIES:
                del self._sent[str(piece)]
                self.found.failed[str(piece)] = (
                    f"lost {TRIES} times with whoever checked it, and given up"
                )
        room = min(len(self._waiting), PIECES_IN_FLIGHT - len(self._sent))
        self._send([piece for piece in again if str(piece) in self._sent], since_us)
        self._send([self._waiting.popleft() for _ in range(room)])

    def end(self) -> None:
        self._checks.end(self._check)

    def _send(self, ready: list[Piece], since_us: int | None = None) -> None:
        """Send pieces; those that were sent before, at `since_us`, Redis µs, go before all that
        waits.
        """
        if not ready:
            return
        self._sent |= {str(piece): piece for piece in ready}
        self._tries.update(map(str, ready))
        sent_us = self._checks.mark_sent(self._check, map(str, ready))
        is_again = since_us is not None
        self._send_pieces(
            self._check, ready, since_us if since_us is not None else sent_us, first=is_again
        )

    def _lost_of(self, still: dict[str, int]) -> set[str]:
        """Return the pieces that no message and no living worker holds, twice in a row."""
        if not self._lost.is_due:
            return set()
        names = still.keys() & self._sent.keys()
        sent = {
            SentWork(
                check_lease(self._check, name), piece_queue(self._sent[name]), still[name]
            ): name
            for name in names
        }
        return {sent[one] for one in self._lost.find_lost(sent)}


def _show(shows: ProgressDisplay, found: Findings, total: int) -> None:
    shows.show(found.partitions, total, "verify: ", lambda: progress_line(found, total))


def progress_line(found: Findings, total: int) -> str:
    """Return where a verification stands, in one line."""
    compared = f", {found.compared:,} compared" if found.compared else ""
    return (
        f"{found.partitions:,}/{total:,} partitions, {found.rows:,} rows{compared}, "
        f"{len(found.faults):,} faults"
    )

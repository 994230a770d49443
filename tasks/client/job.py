"""Does the pieces of a job: in this process, or by the fleet while this process waits."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from kombu.exceptions import OperationalError
from redis import RedisError

from klinefleet.tasks.client.follow import REDIS_AWAY_S
from klinefleet.tasks.client.progress_bar import ProgressDisplay
from klinefleet.tasks.jobs.enqueue import SendPieces, send_pieces
from klinefleet.tasks.jobs.piece import Piece, Results
from klinefleet.tasks.jobs.state import Jobs
from klinefleet.tasks.runs.lost_work import CHECK_INTERVAL_S, LostWorkDetector, SentWork
from klinefleet.workers.app import connect
from klinefleet.workers.coordination.redis_faults import in_words
from klinefleet.workers.domain.errors import RunLost
from klinefleet.workers.domain.redis_keys import piece_lease
from klinefleet.workers.services import Services
from klinefleet.workers.support.threads import Threads

logger = logging.getLogger(__name__)

#: Most pieces sent and not yet done: bounds what Redis holds, however large the lake is.
PIECES_IN_FLIGHT = 200
#: Pieces done at once in this process, which mostly waits for the store.
LOCAL_THREADS = 4
#: Times a piece is sent. One that was lost as often may be what kills its workers.
TRIES = 3
#: Seconds between two rounds of a fleet's job.
POLL_S = 0.05
#: Seconds between two attempts while Redis does not answer.
REDIS_RETRY_S = 1.0

P = TypeVar("P", bound=Piece)
R = TypeVar("R", bound=Results)


@dataclass(frozen=True)
class Job(Generic[P, R]):
    """Pieces to do, how one is done, and where their results add up."""

    pieces: Sequence[P]
    work: Callable[[Services, P], R]
    results: R
    parse_results: Callable[[str], tuple[str, R]]
    """Returns the name of a piece and its results, of the JSON that its task has recorded."""
    show: Callable[[R], None]
    """Shows the progress."""


def work_here(services: Services, job: Job[P, R]) -> R:
    """Do the pieces in this process and return the results."""
    with Threads(LOCAL_THREADS, thread_name_prefix="piece") as threads:
        futures = [threads.submit(job.work, services, piece) for piece in job.pieces]
        try:
            for future in as_completed(futures):
                job.results.add(future.result())
                job.show(job.results)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return job.results


def work_by_fleet(
    services: Services,
    job: Job[P, R],
    display: ProgressDisplay,
    *,
    send: SendPieces = send_pieces,
    lost_work_interval_s: float = CHECK_INTERVAL_S,
    on_poll: Callable[[], None] = lambda: None,
) -> R:
    """Have workers do the pieces and return the results; `on_poll` is called while waiting.

    Pieces of killed workers are sent again. RunLost if Redis stays away.
    """
    connect(services.settings)
    leader = _Leader(services, job, send, lost_work_interval_s)
    last_answer = time.monotonic()
    try:
        while not leader.is_done:
            try:
                leader.advance()
                on_poll()
                last_answer = time.monotonic()
            except (RedisError, OperationalError) as error:
                if time.monotonic() - last_answer > REDIS_AWAY_S:
                    logger.debug("Redis is away: %r", error)
                    raise RunLost(
                        f"Redis has been away for {REDIS_AWAY_S:.0f} s; start again"
                    ) from error
                display.say(f"waiting for Redis, which {in_words(error)}")
                time.sleep(REDIS_RETRY_S)
            job.show(job.results)
            time.sleep(POLL_S)
    finally:
        leader.end()
    return job.results


class _Leader(Generic[P, R]):
    """Leads a job from this process, with a bounded number of pieces in flight."""

    def __init__(
        self,
        services: Services,
        job: Job[P, R],
        send: SendPieces,
        lost_work_interval_s: float,
    ) -> None:
        self._job = job
        self._jobs = Jobs(services.redis)
        self._id = self._jobs.begin()
        self._waiting = deque(job.pieces)
        self._sent: dict[str, P] = {}
        self._tries = Counter[str]()
        self._send_pieces = send
        self._lost = LostWorkDetector(services.redis, interval_s=lost_work_interval_s)

    @property
    def is_done(self) -> bool:
        return not (self._waiting or self._sent)

    def advance(self) -> None:
        """Collect results, resend lost pieces, and send as many new ones as there is room for."""
        sent_us, results = self._jobs.poll(self._id)
        for name, of_piece in map(self._job.parse_results, results):
            if self._sent.pop(name, None):
                self._job.results.add(of_piece)
        lost = self._lost_pieces(sent_us)
        resend = [
            piece for name, piece in self._sent.items() if name not in sent_us or name in lost
        ]
        for piece in resend:
            if self._tries[str(piece)] == TRIES:
                del self._sent[str(piece)]
                self._job.results.failed[str(piece)] = (
                    f"given up: its worker was killed or failed {TRIES} times (see its log)"
                )
        room = min(len(self._waiting), PIECES_IN_FLIGHT - len(self._sent))
        oldest_us = min((sent_us[name] for name in lost), default=0)
        self._send([piece for piece in resend if str(piece) in self._sent], oldest_us)
        self._send([self._waiting.popleft() for _ in range(room)])

    def end(self) -> None:
        self._jobs.end(self._id)

    def _send(self, pieces: list[P], first_sent_us: int | None = None) -> None:
        """Send pieces; resent ones, first sent at `first_sent_us`, Redis µs, go ahead of others."""
        if not pieces:
            return
        self._sent |= {str(piece): piece for piece in pieces}
        self._tries.update(map(str, pieces))
        now_us = self._jobs.mark_sent(self._id, map(str, pieces))
        if first_sent_us is None:
            self._send_pieces(self._id, pieces, now_us, first=False)
        else:
            self._send_pieces(self._id, pieces, first_sent_us, first=True)

    def _lost_pieces(self, sent_us: dict[str, int]) -> set[str]:
        """Return the pieces that twice in a row no message and no live worker held."""
        if not self._lost.is_due:
            return set()
        names = {
            SentWork(piece_lease(self._id, name), self._sent[name].queue, sent_us[name]): name
            for name in sent_us.keys() & self._sent.keys()
        }
        return {names[sent] for sent in self._lost.find_lost(names)}

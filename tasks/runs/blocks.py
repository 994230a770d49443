"""The blocks and windows of a run: every move is one script or one transaction, and safe to make
twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis

from klinefleet.tasks.runs.moves import Moves, count_arguments, pairs, record_arguments
from klinefleet.tasks.runs.progress import BlockState, State
from klinefleet.tasks.runs.records import Record
from klinefleet.workers.domain.errors import LeaseLost
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.redis_keys import (
    DONE_MS,
    done_key,
    run_key,
    window_field,
    window_of,
)
from klinefleet.workers.domain.series import Block, Window


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of telling that a window is in."""

    is_counted: bool
    """False for a second copy, and for a window that nobody waits for any more."""
    sent_us: int
    """The Redis µs at which the first of what follows from it counts as sent."""
    is_last: bool
    """Whether its block is to be compacted now."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What a run has under way; `windows` are those not in yet, oldest first, with the Redis µs of
    their sending.
    """

    blocks: Mapping[Block, BlockState]
    windows: Mapping[Window, int]


@dataclass(frozen=True, slots=True)
class Again:
    """A window that a compaction needs first, if it was not tried so often before."""

    window: Window
    counted_as: str
    most: int


class Blocks:
    """Blocks under way, of all runs. See `klinefleet.tasks.runs` for a block's life."""

    def __init__(self, redis: Redis, fence: int | None = None) -> None:
        self._redis = redis
        self._moves = Moves(redis, "block_scripts", fence)

    def claim(self, run: str, block: Block) -> bool:
        """Return whether a block is this run's and can be put under way.

        While another run that lives has it, it is deferred; where it is under way already, nothing
        changes.
        """
        return bool(self._moves.make("claim", run, str(block), block.series.symbol))

    def deferred(self, run: str) -> list[Block]:
        """Return the blocks that another run had when this one wanted them."""
        found = cast("set[bytes]", self._redis.smembers(run_key(run, "deferred")))
        return sorted(Block.parse(block.decode()) for block in found)

    def touched(self, run: str) -> set[str] | None:
        """Return the symbols of which the run has claimed a block, None where that is known no
        more.
        """
        with self._redis.pipeline() as pipe:
            pipe.smembers(run_key(run, "touched"))
            pipe.hget(run_key(run), "touched")
            symbols, count = pipe.execute()
        return {symbol.decode() for symbol in symbols} if len(symbols) == int(count or 0) else None

    def compacted_ms(self, block: Block) -> int:
        """Return the Redis ms at which the block was last compacted, 0 where that is long ago."""
        return int(cast("bytes | None", self._redis.get(done_key(block))) or 0)

    def open(self, run: str, block: Block, windows: Sequence[Window], counted_as: str = "") -> int:
        """Put a claimed block under way: its windows are to come, or it goes straight to compaction
        without any.

        Returns the Redis µs at which the first counts as sent, 0 where it is not claimed.
        `counted_as` counts one try.
        """
        return int(
            self._moves.make(
                "open", run, str(block), _calls(windows), counted_as, *map(window_field, windows)
            )
        )

    def release(self, run: str, block: Block, counted_as: str = "") -> None:
        """Let other runs have a block that this one has claimed, and has nothing to do for."""
        self._moves.make("release", run, str(block), counted_as)

    def in_flight(self, run: str) -> tuple[int, int]:
        """Return how many windows of the run are not in yet, and how many blocks are under way."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(run_key(run, "windows"))
            pipe.hlen(run_key(run, "blocks"))
            windows, blocks = pipe.execute()
        return windows, blocks

    def under_way(self, run: str) -> UnderWay:
        """Return all that is under way; parts that disagree, as after a Redis that lost some, are
        mended.
        """
        blocks, windows = self._moves.make("reconcile", run) or ((), ())
        return UnderWay(
            {Block.parse(name.decode()): BlockState.of_json(told) for name, told in pairs(blocks)},
            dict(
                sorted(
                    (window_of(field.decode()), int(sent_us)) for field, sent_us in pairs(windows)
                )
            ),
        )

    def states(self, run: str) -> dict[Block, BlockState]:
        """Return the blocks under way."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(run_key(run, "blocks")))
        return {
            Block.parse(name.decode()): BlockState.of_json(told) for name, told in found.items()
        }

    def is_pending(self, run: str, window: Window) -> bool:
        """Return whether the window is still to be fetched for this run."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(run_key(run), "state")
            pipe.hexists(run_key(run, "windows"), window_field(window))
            state, waits = pipe.execute()
        return state == State.RUNNING.encode() and bool(waits)

    def finish(
        self,
        run: str,
        window: Window,
        counts: Mapping[str, int],
        *,
        records: Sequence[Record] = (),
        instead: Sequence[Window] = (),
    ) -> Finished:
        """Count a window as in, or as failed for good, as `records` say; `instead` takes its place."""
        counters = Counter(counts) + Counter(calls_issued=_calls(instead))
        fields = list(map(window_field, instead))
        parts = (
            str(window.block),
            window_field(window),
            len(fields),
            *fields,
            *record_arguments(records),
            *count_arguments(counters),
        )
        answer = self._moves.make("finish", run, *parts)
        return Finished(bool(answer[0]), int(answer[1]), bool(answer[2]))

    def compacting(self, run: str, block: Block, fence: int) -> bool:
        """Return whether the block is to be compacted, by the lease with this fencing number and no
        earlier one.
        """
        return bool(self._moves.make("compacting", run, str(block), fence))

    def reopen(
        self, run: str, block: Block, fence: int, again: Sequence[Again]
    ) -> tuple[int, list[bool]]:
        """Have windows fetched before the block is compacted; of those tried too often nothing more
        is asked.

        Returns the Redis µs at which the first counts as sent, and for each whether it is;
        LeaseLost where the block is another's by now.
        """
        parts = [
            part
            for one in again
            for part in (window_field(one.window), one.counted_as, one.most, _calls([one.window]))
        ]
        answer = self._moves.make("reopen", run, str(block), fence, *parts)
        if not answer:
            raise LeaseLost(
                f"{block}: somebody else compacts it by now, or its run has ended; nothing was "
                "published"
            )
        return int(answer[0]), [bool(accepted) for accepted in answer[1:]]

    def close(
        self,
        run: str,
        block: Block,
        fence: int,
        counts: Mapping[str, int],
        *,
        records: Sequence[Record] = (),
    ) -> bool:
        """Note that a block is compacted, or could not be, as `records` say, and let other runs
        have it.

        Returns False where it is closed already, or another's.
        """
        parts = (str(block), fence, DONE_MS, *record_arguments(records), *count_arguments(counts))
        return bool(self._moves.make("close", run, *parts, keys=[done_key(block)]))

    def note_sent(
        self, run: str, windows: Sequence[Window], blocks: Sequence[Block] = (), later_us: int = 0
    ) -> int:
        """Note that messages are sent again, or will be so much later; returns the Redis µs."""
        return int(
            self._moves.make(
                "sent", run, later_us, len(windows), *map(window_field, windows), *map(str, blocks)
            )
        )

    def attempts(self, run: str, name: str) -> int:
        """Return how often something was tried again."""
        return int(cast("bytes | None", self._redis.hget(run_key(run, "tries"), name)) or 0)

    def record_attempt(self, run: str, name: str, most: int) -> bool:
        """Count one more try of something; False once there have been `most`, or the run has ended."""
        return bool(self._moves.make("try_again", run, name, most))


def _calls(windows: Iterable[Window]) -> int:
    """Return the REST calls that bring what the windows bring: the measure of progress, whatever
    the source.
    """
    return sum(page_count(window.block.series, window.span) for window in windows)

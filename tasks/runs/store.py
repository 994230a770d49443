"""The moves of a run: every method is one script or one transaction, and safe to call twice."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.commands.core import Script

from tasks.request import Request
from tasks.runs.keys import (
    ACTIVE,
    BELL,
    DONE_MS,
    KEEP_MS,
    RUNS,
    done_key,
    run_key,
    script_keys,
    window_field,
    window_of,
)
from tasks.runs.progress import COUNTERS, Backlog, BlockState, Progress, State
from tasks.runs.records import Level, Record
from workers.binance.markets import Pool, page_count
from workers.errors import LeaseLost, Unreadable
from workers.heart import now_ms
from workers.model import Block, Window

_HERE = Path(__file__).parent


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
    """What a run has under way; `windows` are those not in yet, oldest first, with the Redis µs of their sending."""

    blocks: Mapping[Block, BlockState]
    windows: Mapping[Window, int]


@dataclass(frozen=True, slots=True)
class Again:
    """A window that a compaction needs first, if it was not tried so often before."""

    window: Window
    counted_as: str
    most: int


class Runs:
    """The state of all runs.

    A planner's has the fencing number of its lease: its writes raise LeaseLost once another planner leads the run.
    """

    def __init__(self, redis: Redis, fence: int | None = None) -> None:
        self._redis = redis
        self._fence = "" if fence is None else str(fence)
        self._scripts: dict[str, Script] = {}

    def create(self, request: Request) -> str:
        """Note a new run, ring for a planner, and return the run's id."""
        now = now_ms(self._redis)
        run = f"{now:x}-{secrets.token_hex(2)}"
        calls = request.calls_of_one() * len(request.symbols)
        told = {"request": request.to_json(), "state": State.RUNNING, "began_ms": now, "calls_ahead": calls}
        told |= {"planned_us": now * 1000, "pool": str(request.pool), "weight_of_call": request.weight_of_call()}
        with self._redis.pipeline() as pipe:
            pipe.hset(run_key(run), mapping=told)  # type: ignore[arg-type]
            pipe.zadd(RUNS, {run: now})
            pipe.sadd(ACTIVE, run)
            pipe.rpush(BELL, run)
            pipe.execute()
        return run

    def rung(self, seconds: float) -> str | None:
        """Return a new run for which nobody has sent a planner, waiting at most `seconds` for one."""
        found = cast("tuple[bytes, bytes] | None", self._redis.blpop([BELL], timeout=seconds))
        return found[1].decode() if found else None

    def active(self) -> list[str]:
        """Return the runs that have not ended."""
        return sorted(run.decode() for run in cast("set[bytes]", self._redis.smembers(ACTIVE)))

    def newest(self) -> str | None:
        """Return the run that was created last, None where there is none."""
        return next(iter(self.recent(1)), None)

    def recent(self, most: int) -> list[str]:
        """Return the runs that were created last, newest first."""
        found = cast("list[bytes]", self._redis.zrange(RUNS, 0, most - 1, desc=True))
        return [run.decode() for run in found]

    def progress(self, run: str) -> Progress | None:
        """Return how a run stands, None where nothing is known of it; Unreadable of a later version's."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(run_key(run))
            pipe.hgetall(run_key(run, "records"))
            told, records = [{k.decode(): v.decode() for k, v in h.items()} for h in pipe.execute()]
        if "request" not in told:
            return None
        return Progress(
            run,
            State(told["state"]),
            _request(run, told["request"]),
            int(told["began_ms"]),
            int(told["ended_ms"]) if "ended_ms" in told else None,
            now_ms(self._redis),
            {name: int(told.get(name, 0)) for name in COUNTERS},
            [Record.of(identity, text) for identity, text in records.items()],
        )

    def request(self, run: str) -> Request | None:
        """Return what the run asked for, None where nothing is known of it; Unreadable of a later version's."""
        told = cast("bytes | None", self._redis.hget(run_key(run), "request"))
        return _request(run, told) if told else None

    def state(self, run: str) -> State | None:
        """Return where the run stands, None where nothing is known of it."""
        told = cast("bytes | None", self._redis.hget(run_key(run), "state"))
        return State(told.decode()) if told else None

    def records(self, run: str) -> list[Record]:
        """Return what the run has to say."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(run_key(run, "records")))
        return [Record.of(identity.decode(), text.decode()) for identity, text in found.items()]

    def record(self, run: str, *records: Record, instead_of: Iterable[Record] = ()) -> None:
        """Note what a run has to say, `instead_of` what it said before; what an ended run said stands."""
        if records:
            self._ask("record", run, *_told(records), *(one.identity for one in instead_of))

    def planned(self, run: str, later_us: int = 0) -> int:
        """Note that a planner is sent for, or will be so much later; returns the Redis µs, 0 where the run ended."""
        return int(self._ask("planned", run, later_us))

    def planned_us(self, runs: Sequence[str]) -> list[int]:
        """Return for each run when a planner was last sent for, Redis µs; 0 where nothing is known of it."""
        with self._redis.pipeline(transaction=False) as pipe:
            for run in runs:
                pipe.hget(run_key(run), "planned_us")
            return [int(told or 0) for told in pipe.execute()]

    def lead(self, run: str, fence: int) -> Runs | None:
        """Return what a planner leads the run with, None where the run has ended; LeaseLost where a later one leads."""
        return Runs(self._redis, fence) if self._ask("lead", run, fence) else None

    def cursor(self, run: str) -> tuple[int, int]:
        """Return (index of the symbol, ms from which its blocks are still to be issued)."""
        symbol, start_ms = cast("list[bytes | None]", self._redis.hmget(run_key(run), ["symbol", "start_ms"]))
        return int(symbol or 0), int(start_ms or 0)

    def advance(self, run: str, symbol: int, start_ms: int, calls_ahead: int, held: int = 0) -> None:
        """Note how far the run's blocks are issued, `held` of them passed over since nothing of them is missing."""
        self._ask("advance", run, symbol, start_ms, calls_ahead, held)

    def claim(self, run: str, block: Block) -> bool:
        """Return whether a block is this run's and can be put under way.

        While another run that lives has it, it is deferred; where it is under way already, nothing changes.
        """
        return bool(self._ask("claim", run, str(block), block.series.symbol))

    def deferred(self, run: str) -> list[Block]:
        """Return the blocks that another run had when this one wanted them."""
        found = cast("set[bytes]", self._redis.smembers(run_key(run, "deferred")))
        return sorted(Block.parse(block.decode()) for block in found)

    def touched(self, run: str) -> set[str] | None:
        """Return the symbols of which the run has claimed a block, None where that is known no more."""
        with self._redis.pipeline() as pipe:
            pipe.smembers(run_key(run, "touched"))
            pipe.hget(run_key(run), "touched")
            symbols, count = pipe.execute()
        return {symbol.decode() for symbol in symbols} if len(symbols) == int(count or 0) else None

    def compacted_ms(self, block: Block) -> int:
        """Return the Redis ms at which the block was last compacted, 0 where that is long ago."""
        return int(cast("bytes | None", self._redis.get(done_key(block))) or 0)

    def open(self, run: str, block: Block, windows: Sequence[Window], counted_as: str = "") -> int:
        """Put a claimed block under way: its windows are to come, or it goes straight to compaction without any.

        Returns the Redis µs at which the first counts as sent, 0 where it is not claimed. `counted_as` counts one try.
        """
        return int(self._ask("open", run, str(block), _calls(windows), counted_as, *map(window_field, windows)))

    def release(self, run: str, block: Block, counted_as: str = "") -> None:
        """Let other runs have a block that this one has claimed, and has nothing to do for."""
        self._ask("release", run, str(block), counted_as)

    def in_flight(self, run: str) -> tuple[int, int]:
        """Return how many windows of the run are not in yet, and how many blocks are under way."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(run_key(run, "windows"))
            pipe.hlen(run_key(run, "blocks"))
            windows, blocks = pipe.execute()
        return windows, blocks

    def under_way(self, run: str) -> UnderWay:
        """Return all that is under way; parts that disagree, as after a Redis that lost some, are mended."""
        blocks, windows = self._ask("reconcile", run) or ((), ())
        return UnderWay(
            {Block.parse(name.decode()): BlockState.of_json(told) for name, told in _pairs(blocks)},
            dict(sorted((window_of(field.decode()), int(sent_us)) for field, sent_us in _pairs(windows))),
        )

    def blocks(self, run: str) -> dict[Block, BlockState]:
        """Return the blocks under way."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(run_key(run, "blocks")))
        return {Block.parse(name.decode()): BlockState.of_json(told) for name, told in found.items()}

    def wants(self, run: str, window: Window) -> bool:
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
        parts = (str(window.block), window_field(window), len(fields), *fields, *_told(records), *_flat(counters))
        answer = self._ask("finish", run, *parts)
        return Finished(bool(answer[0]), int(answer[1]), bool(answer[2]))

    def compacting(self, run: str, block: Block, fence: int) -> bool:
        """Return whether the block is to be compacted, by the lease with this fencing number and no earlier one."""
        return bool(self._ask("compacting", run, str(block), fence))

    def reopen(self, run: str, block: Block, fence: int, again: Sequence[Again]) -> tuple[int, list[bool]]:
        """Have windows fetched before the block is compacted; of those tried too often nothing more is asked.

        Returns the Redis µs at which the first counts as sent, and for each whether it is; LeaseLost where the block is
        another's by now.
        """
        parts = [
            part for one in again for part in (window_field(one.window), one.counted_as, one.most, _calls([one.window]))
        ]
        answer = self._ask("reopen", run, str(block), fence, *parts)
        if not answer:
            raise LeaseLost(f"{block}: somebody else compacts it by now, or its run has ended; nothing was published")
        return int(answer[0]), [bool(accepted) for accepted in answer[1:]]

    def close(
        self, run: str, block: Block, fence: int, counts: Mapping[str, int], *, records: Sequence[Record] = ()
    ) -> bool:
        """Note that a block is compacted, or could not be, as `records` say, and let other runs have it.

        Returns False where it is closed already, or another's.
        """
        parts = (str(block), fence, DONE_MS, *_told(records), *_flat(counts))
        return bool(self._ask("close", run, *parts, keys=[done_key(block)]))

    def count(self, run: str, counts: Mapping[str, int]) -> None:
        """Count what no other move counts: a compaction that stands still after a merge never closes its block."""
        self._ask("count", run, *_flat(counts))

    def sent(self, run: str, windows: Sequence[Window], blocks: Sequence[Block] = (), later_us: int = 0) -> int:
        """Note that messages are sent again, or will be so much later; returns the Redis µs."""
        return int(self._ask("sent", run, later_us, len(windows), *map(window_field, windows), *map(str, blocks)))

    def tries(self, run: str, name: str) -> int:
        """Return how often something was tried again."""
        return int(cast("bytes | None", self._redis.hget(run_key(run, "tries"), name)) or 0)

    def try_again(self, run: str, name: str, most: int) -> bool:
        """Count one more try of something; False once there have been `most`, or the run has ended."""
        return bool(self._ask("try_again", run, name, most))

    def weight_ahead(self, pool: Pool) -> int:
        """Return the weight of all calls to this pool that active runs have still to make."""
        names = ["pool", "weight_of_call", "calls_issued", "calls_done", "calls_ahead"]
        with self._redis.pipeline(transaction=False) as pipe:
            for run in self.active():
                pipe.hmget(run_key(run), names)
            of_runs = pipe.execute()
        total = 0
        for of_pool, *numbers in of_runs:
            weight, issued, done, ahead = (int(number or 0) for number in numbers)
            if of_pool == pool.encode():
                total += weight * (max(0, issued - done) + ahead)
        return total

    def backlog(self) -> list[Backlog]:
        """Return what each run that has not ended has under way."""
        active = self.active()
        with self._redis.pipeline(transaction=False) as pipe:
            for run in active:
                pipe.hlen(run_key(run, "windows"))
                pipe.hkeys(run_key(run, "records"))
                pipe.hvals(run_key(run, "blocks"))
            told = iter(pipe.execute())
        return [
            Backlog(windows, _failed(identities), [BlockState.of_json(block) for block in blocks])
            for windows, identities, blocks in zip(told, told, told, strict=True)
        ]

    def wait(self, run: str, seconds: float) -> None:
        """Return when something has happened to the run, at the latest after `seconds`."""
        self._redis.blpop([run_key(run, "wake")], timeout=seconds)

    def end(self, run: str, state: State) -> bool:
        """Note how a run has ended, and let go of all it held; False where it had ended before: that stands."""
        return bool(self._ask("end", run, state, KEEP_MS))

    def _ask(self, verb: str, run: str, *args: Any, keys: Sequence[str] = ()) -> Any:
        """Return what a script answers; LeaseLost where another planner leads the run."""
        if verb not in self._scripts:
            self._scripts[verb] = self._redis.register_script(_script(verb))
        answer: Any = self._scripts[verb](keys=[*script_keys(run), *keys], args=[run, self._fence, *args])
        if answer == -1:
            raise LeaseLost(f"run {run}: another planner leads it by now; this one has changed nothing more")
        return answer


@cache
def _script(verb: str) -> str:
    return "".join((_HERE / f"{part}.lua").read_text() for part in ("run", verb))


def _request(run: str, told: str | bytes) -> Request:
    try:
        return Request.from_json(told)
    except ValueError as error:
        raise Unreadable(f"what run {run} asked for is of another version: {error}") from error


def _failed(identities: Iterable[bytes]) -> int:
    return sum(Record.of(identity.decode(), "").level is Level.FAILED for identity in identities)


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _told(records: Sequence[Record]) -> list[str | int]:
    return [len(records), *(part for record in records for part in (record.identity, record.text))]


def _flat(counts: Mapping[str, int]) -> list[str | int]:
    return [part for pair in counts.items() for part in pair]


def _calls(windows: Iterable[Window]) -> int:
    """Return the REST calls that bring what the windows bring: the measure of progress, whatever the source."""
    return sum(page_count(window.block.series, window.span) for window in windows)

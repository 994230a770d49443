"""The life of a run: every move is one script or one transaction, and safe to make twice."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from redis import Redis

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.blocks import Blocks
from klinefleet.tasks.runs.moves import Moves, count_arguments, record_arguments
from klinefleet.tasks.runs.progress import COUNTERS, Backlog, BlockState, Progress, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import Unreadable
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.redis_keys import (
    ACTIVE,
    KEEP_MS,
    NEW_RUNS,
    RUNS,
    run_key,
)


class Runs:
    """The state of all runs; `blocks` has that of their blocks.

    A planner's has the fencing number of its lease: its writes raise LeaseLost once another planner
    leads the run.
    """

    def __init__(self, redis: Redis, fence: int | None = None) -> None:
        self._redis = redis
        self._moves = Moves(redis, "run_scripts", fence)
        self.blocks = Blocks(redis, fence)

    def create(self, request: Request) -> str:
        """Note a new run, ring for a planner, and return the run's id."""
        now = now_ms(self._redis)
        run = f"{now:x}-{secrets.token_hex(2)}"
        calls = request.calls_of_one() * len(request.symbols)
        told = {
            "request": request.to_json(),
            "state": State.RUNNING,
            "began_ms": now,
            "calls_ahead": calls,
        }
        told |= {
            "planned_us": now * 1000,
            "pool": str(request.pool),
            "weight_of_call": request.weight_of_call(),
        }
        with self._redis.pipeline() as pipe:
            pipe.hset(run_key(run), mapping=told)  # type: ignore[arg-type]
            pipe.zadd(RUNS, {run: now})
            pipe.sadd(ACTIVE, run)
            pipe.rpush(NEW_RUNS, run)
            pipe.execute()
        return run

    def next_new(self, seconds: float) -> str | None:
        """Return a new run for which nobody has sent a planner, waiting at most `seconds` for one."""
        found = cast("tuple[bytes, bytes] | None", self._redis.blpop([NEW_RUNS], timeout=seconds))
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
        """Return how a run stands, None where nothing is known of it; Unreadable of a later
        version's.
        """
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
        """Return what the run asked for, None where nothing is known of it; Unreadable of a later
        version's.
        """
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
        """Note what a run has to say, `instead_of` what it said before; what an ended run said
        stands.
        """
        if records:
            self._moves.make(
                "record", run, *record_arguments(records), *(one.identity for one in instead_of)
            )

    def planned(self, run: str, later_us: int = 0) -> int:
        """Note that a planner is sent for, or will be so much later; returns the Redis µs, 0 where
        the run ended.
        """
        return int(self._moves.make("planned", run, later_us))

    def planned_us(self, runs: Sequence[str]) -> list[int]:
        """Return for each run when a planner was last sent for, Redis µs; 0 where nothing is known
        of it.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            for run in runs:
                pipe.hget(run_key(run), "planned_us")
            return [int(told or 0) for told in pipe.execute()]

    def lead(self, run: str, fence: int) -> Runs | None:
        """Return what a planner leads the run with, None where the run has ended; LeaseLost where a
        later one leads.
        """
        return Runs(self._redis, fence) if self._moves.make("lead", run, fence) else None

    def cursor(self, run: str) -> tuple[int, int]:
        """Return (index of the symbol, ms from which its blocks are still to be issued)."""
        symbol, start_ms = cast(
            "list[bytes | None]", self._redis.hmget(run_key(run), ["symbol", "start_ms"])
        )
        return int(symbol or 0), int(start_ms or 0)

    def advance(
        self, run: str, symbol: int, start_ms: int, calls_ahead: int, held: int = 0
    ) -> None:
        """Note how far the run's blocks are issued, `held` of them passed over since nothing of
        them is missing.
        """
        self._moves.make("advance", run, symbol, start_ms, calls_ahead, held)

    def count(self, run: str, counts: Mapping[str, int]) -> None:
        """Count what no other move counts: a compaction that stands still after a merge never
        closes its block.
        """
        self._moves.make("count", run, *count_arguments(counts))

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
        """Note how a run has ended, and let go of all it held; False where it had ended before:
        that stands.
        """
        return bool(self._moves.make("end", run, state, KEEP_MS))


def _request(run: str, told: str | bytes) -> Request:
    try:
        return Request.from_json(told)
    except ValueError as error:
        raise Unreadable(f"what run {run} asked for is of another version: {error}") from error


def _failed(identities: Iterable[bytes]) -> int:
    return sum(Record.of(identity.decode(), "").level is Level.FAILED for identity in identities)

"""A run's state in Redis: what it asked for, what is under way, what has come of it.

    klines:run:<id>           hash   request, state, cursor, times and counters
    klines:run:<id>:blocks    hash   block -> fetching@<ms> | compacting@<ms>, the blocks under way and since when
    klines:run:<id>:deferred  set    blocks that another run is fetching
    klines:run:<id>:failed    hash   window -> why it failed for good
    klines:run:<id>:report    hash   file or block -> what was wrong with it, and what answered instead
    klines:run:<id>:tries     hash   window or block -> times it was handed back or fetched again
    klines:run:<id>:wake      list   something has happened, planner look again
    klines:latch:<block>      set    the block's windows that are not in yet; the last one out fires the compaction
    klines:claims             hash   block -> run: no block is fetched for two runs at once
    klines:done:<block>       string Redis ms at which it was last compacted
    klines:active, klines:runs       set and sorted set of run ids
    klines:bell               list   new runs; a plan lane that hears of one sends it a planner

Counters are only ever moved together with the membership they count, so a task that runs twice counts once.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast

from redis import Redis

from tasks.backlog import COMPACTING, FETCHING, Backlog, begun, doing_of
from tasks.request import Request
from workers.binance.markets import Pool, page_count
from workers.heart import now_ms
from workers.model import Block, Source, Span, Window

#: What is known of a run that ended is kept this long.
KEEP_MS = 7 * 86_400_000
#: A planner that has read a block's coverage within this time can tell that the block was compacted since.
_DONE_MS = 3_600_000

_SCRIPTS = {verb: Path(__file__).with_name(f"{verb}.lua").read_text() for verb in ("finish", "claim", "end")}


class State(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self is not State.RUNNING


@dataclass(frozen=True)
class Progress:
    """A run as people see it. Weights, calls and klines are this run's own."""

    run: str
    state: State
    request: Request
    began_ms: int
    ended_ms: int | None
    now_ms: int
    counts: dict[str, int]
    notes: dict[str, str]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return max(0.001, ((self.ended_ms or self.now_ms) - self.began_ms) / 1000)

    @property
    def calls_left(self) -> int:
        """Calls that are issued or will be, as far as is known."""
        return max(0, self.counts["calls_issued"] - self.counts["calls_done"]) + self.counts["calls_ahead"]

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the pace so far, None before there is one."""
        done = self.counts["calls_done"]
        return self.calls_left * self.seconds / done if done else None


COUNTERS = (
    "windows", "windows_done", "windows_failed", "calls_issued", "calls_done", "calls_ahead", "calls", "retries",
    "weight", "klines", "file_klines", "waited_ms", "bytes", "files", "blocks", "blocks_done", "blocks_held", "rows",
    "changed",
)  # fmt: skip


_WINDOWS = ["windows", "windows_done", "windows_failed"]


class Runs:
    """The state of all runs; every method is safe to call twice."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._finish, self._claim, self._end = map(redis.register_script, _SCRIPTS.values())

    def create(self, request: Request) -> str:
        """Note a new run, ring for a planner, and return the run's id."""
        now = now_ms(self._redis)
        run = f"{now:x}-{secrets.token_hex(2)}"
        calls = request.calls_of_one() * len(request.symbols)
        told = {"request": request.to_json(), "state": State.RUNNING, "began_ms": now, "calls_ahead": calls}
        with self._redis.pipeline() as pipe:
            pipe.hset(_run(run), mapping=told)  # type: ignore[arg-type]
            pipe.zadd("klines:runs", {run: now})
            pipe.sadd("klines:active", run)
            pipe.rpush("klines:bell", run)
            pipe.execute()
        return run

    def rung(self, seconds: float) -> str | None:
        """Return a new run for which nobody has sent a planner, waiting at most `seconds` for one."""
        found = cast("tuple[bytes, bytes] | None", self._redis.blpop(["klines:bell"], timeout=seconds))
        return found[1].decode() if found else None

    def active(self) -> list[str]:
        """Return the runs that have not ended."""
        return sorted(run.decode() for run in cast("set[bytes]", self._redis.smembers("klines:active")))

    def newest(self) -> str | None:
        """Return the run that was created last, None where there is none."""
        found = cast("list[bytes]", self._redis.zrange("klines:runs", -1, -1))
        return found[0].decode() if found else None

    def recent(self, most: int) -> list[str]:
        """Return the runs that were created last, newest first."""
        found = cast("list[bytes]", self._redis.zrange("klines:runs", 0, most - 1, desc=True))
        return [run.decode() for run in found]

    def progress(self, run: str) -> Progress | None:
        """Return how a run stands, None where nothing is known of it."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(_run(run))
            pipe.hgetall(_run(run, "failed"))
            pipe.hgetall(_run(run, "notes"))
            told, failed, notes = [{k.decode(): v.decode() for k, v in h.items()} for h in pipe.execute()]
        if "request" not in told:
            return None
        return Progress(
            run,
            State(told["state"]),
            Request.from_json(told["request"]),
            int(told["began_ms"]),
            int(told["ended_ms"]) if "ended_ms" in told else None,
            now_ms(self._redis),
            {name: int(told.get(name, 0)) for name in COUNTERS},
            notes,
            failed,
        )

    def request(self, run: str) -> Request | None:
        """Return what the run asked for, None where nothing is known of it."""
        told = cast("bytes | None", self._redis.hget(_run(run), "request"))
        return Request.from_json(told) if told else None

    def state(self, run: str) -> State | None:
        """Return where the run stands, None where nothing is known of it."""
        told = cast("bytes | None", self._redis.hget(_run(run), "state"))
        return State(told.decode()) if told else None

    def cursor(self, run: str) -> tuple[int, int]:
        """Return (index of the symbol, ms from which its blocks are still to be issued)."""
        symbol, start_ms = cast("list[bytes | None]", self._redis.hmget(_run(run), ["symbol", "start_ms"]))
        return int(symbol or 0), int(start_ms or 0)

    def move_cursor(self, run: str, symbol: int, start_ms: int, calls_ahead: int) -> None:
        """Note how far the run's blocks are issued."""
        moved = {"symbol": symbol, "start_ms": start_ms, "calls_ahead": calls_ahead}
        self._redis.hset(_run(run), mapping=moved)  # type: ignore[arg-type]

    def note(self, run: str, symbol: str, text: str) -> None:
        """Note something a user should know of a symbol."""
        self._redis.hset(_run(run, "notes"), symbol, text)

    def report(self, run: str, told: dict[str, str]) -> None:
        """Note what was wrong with files or blocks, and what was done about it."""
        if told:
            self._redis.hset(_run(run, "report"), mapping=told)  # type: ignore[arg-type]

    def reported(self, run: str) -> dict[str, str]:
        """Return what was wrong with files or blocks, and what was done about it."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(_run(run, "report")))
        return {name.decode(): text.decode() for name, text in sorted(found.items())}

    def claim(self, run: str, block: Block) -> bool:
        """Take a block for this run; False, and deferred, while another run that lives has it."""
        keys = ["klines:claims", "klines:active", _run(run, "deferred")]
        return bool(self._claim(keys, [str(block), run]))

    def deferred(self, run: str) -> list[Block]:
        """Return the blocks that another run had when this one wanted them."""
        found = cast("set[bytes]", self._redis.smembers(_run(run, "deferred")))
        return sorted(Block.parse(block.decode()) for block in found)

    def settle(self, run: str, block: Block) -> None:
        """Note that a block that had to wait is under way for this run, or held."""
        self._redis.srem(_run(run, "deferred"), str(block))

    def compacted_ms(self, block: Block) -> int:
        """Return the Redis ms at which the block was last compacted, 0 where that is long ago."""
        return int(cast("bytes | None", self._redis.get(f"klines:done:{block}")) or 0)

    def open(self, run: str, block: Block, windows: Sequence[Window]) -> None:
        """Put a block under way: its windows on the latch, or straight to compaction where there are none."""
        names = [_name(window) for window in windows]
        with self._redis.pipeline() as pipe:
            pipe.hset(_run(run, "blocks"), str(block), self._now(FETCHING if names else COMPACTING))
            if names:
                pipe.sadd(_latch(block), *names)
            pipe.hincrby(_run(run), "blocks", 1)
            pipe.hincrby(_run(run), "windows", len(names))
            pipe.hincrby(_run(run), "calls_issued", _calls(windows))
            pipe.execute()

    def is_open(self, run: str, block: Block) -> bool:
        """Return whether the block is under way for this run."""
        return bool(self._redis.hexists(_run(run, "blocks"), str(block)))

    def in_flight(self, run: str) -> tuple[int, int]:
        """Return how many windows of the run are issued and not yet done, and how many blocks are under way."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(_run(run), _WINDOWS)
            pipe.hlen(_run(run, "blocks"))
            counted, blocks = pipe.execute()
        issued, done, failed = (int(count or 0) for count in counted)
        return issued - done - failed, blocks

    def weight_ahead(self, pool: Pool) -> int:
        """Return the weight of all calls to this pool that active runs have still to make."""
        total = 0
        for run in self.active():
            progress = self.progress(run)
            if progress and progress.request.pool is pool:
                total += progress.calls_left * progress.request.weight_of_call()
        return total

    def fail(self, run: str, name: str, reason: str) -> None:
        """Note something that failed for good, with its reason."""
        self._redis.hset(_run(run, "failed"), name, reason)

    def hold(self, run: str, blocks: int) -> None:
        """Note blocks of which nothing is missing."""
        self._redis.hincrby(_run(run), "blocks_held", blocks)

    def release(self, run: str, block: Block) -> None:
        """Let other runs have a block that this one has claimed, and has nothing to do for."""
        with self._redis.pipeline() as pipe:
            pipe.hdel("klines:claims", str(block))
            pipe.hincrby(_run(run), "blocks_held", 1)
            pipe.execute()

    def wants(self, run: str, window: Window) -> bool:
        """Return whether the window is still to be fetched for this run."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(_run(run), "state")
            pipe.sismember(_latch(window.block), _name(window))
            state, waits = pipe.execute()
        return state == State.RUNNING.encode() and bool(waits)

    def finish(
        self, run: str, window: Window, counts: dict[str, int], *, reason: str = "", instead: Sequence[Window] = ()
    ) -> bool:
        """Take a window off its latch, `instead` in its place; returns whether its block is to be compacted now."""
        latch, block = _latch(window.block), str(window.block)
        keys = [latch, _run(run), _run(run, "blocks"), _run(run, "failed"), _run(run, "wake"), "klines:claims"]
        failed = str(window) if reason else ""
        counts = Counter(counts) + Counter(windows=len(instead), calls_issued=_calls(instead))
        counters = [part for pair in counts.items() for part in pair]
        names = [_name(other) for other in instead]
        return bool(self._finish(keys, [_name(window), block, failed, reason, run, len(names), *names, *counters]))

    def close(self, run: str, block: Block, counts: dict[str, int], *, reason: str = "") -> None:
        """Note that a block is compacted (or could not be, for a reason), and let other runs have it."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(_run(run, "blocks"), str(block))
            pipe.hget("klines:claims", str(block))
            closed, owner = pipe.execute()
        if not closed:
            return
        with self._redis.pipeline() as pipe:
            if owner == run.encode():
                pipe.hdel("klines:claims", str(block))
            if reason:
                pipe.hset(_run(run, "failed"), str(block), reason)
            pipe.set(f"klines:done:{block}", now_ms(self._redis), px=_DONE_MS)
            pipe.hincrby(_run(run), "blocks_done", 1)
            for name, count in counts.items():
                pipe.hincrby(_run(run), name, count)
            pipe.rpush(_run(run, "wake"), 1)
            pipe.execute()

    def try_again(self, run: str, name: str, most: int) -> bool:
        """Count one more try of a window or block; False once there have been `most`."""
        return int(self._redis.hincrby(_run(run, "tries"), name, 1)) < most

    def reopen(self, run: str, block: Block, windows: Sequence[Window]) -> None:
        """Put windows of a block that was to be compacted on its latch again."""
        with self._redis.pipeline() as pipe:
            pipe.sadd(_latch(block), *(_name(window) for window in windows))
            pipe.hset(_run(run, "blocks"), str(block), self._now(FETCHING))
            pipe.hincrby(_run(run), "windows", len(windows))
            pipe.hincrby(_run(run), "calls_issued", _calls(windows))
            pipe.execute()

    def blocks(self, run: str) -> dict[Block, str]:
        """Return the blocks under way and what is being done with them."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(_run(run, "blocks")))
        return {Block.parse(block.decode()): doing_of(told) for block, told in found.items()}

    def backlog(self) -> list[Backlog]:
        """Return what each run that has not ended has under way."""
        active = self.active()
        with self._redis.pipeline(transaction=False) as pipe:
            for run in active:
                pipe.hmget(_run(run), _WINDOWS)
                pipe.hlen(_run(run, "failed"))
                pipe.hvals(_run(run, "blocks"))
            told = iter(pipe.execute())
        return [Backlog.of(*of_run) for of_run in zip(told, told, told, strict=True)]

    def pending(self, block: Block) -> list[Window]:
        """Return the windows on a block's latch, oldest first."""
        names = cast("set[bytes]", self._redis.smembers(_latch(block)))
        return sorted(_window(block, name.decode()) for name in names)

    def compacting(self, run: str, block: Block) -> None:
        """Note that a block has nothing left on its latch."""
        self._redis.hset(_run(run, "blocks"), str(block), self._now(COMPACTING))

    def wait(self, run: str, seconds: float) -> None:
        """Return when something has happened to the run, at the latest after `seconds`."""
        self._redis.blpop([_run(run, "wake")], timeout=seconds)

    def end(self, run: str, state: State) -> bool:
        """Note how a run has ended, and let go of all it held; False where it had ended before: that stands."""
        now = now_ms(self._redis)
        claims = cast("dict[bytes, bytes]", self._redis.hgetall("klines:claims"))
        mine = [block for block, owner in claims.items() if owner == run.encode()]
        with self._redis.pipeline() as pipe:
            self._end([_run(run), "klines:active"], [run, state, now], client=pipe)
            if mine:
                pipe.hdel("klines:claims", *mine)
                pipe.delete(*(b"klines:latch:" + block for block in mine))
            pipe.delete(*(_run(run, part) for part in ("blocks", "deferred", "tries", "wake")))
            for part in ("", "failed", "notes", "report"):
                pipe.pexpire(_run(run, part), KEEP_MS)
            pipe.zremrangebyscore("klines:runs", 0, now - KEEP_MS)
            is_first, *_ = pipe.execute()
        return bool(is_first)

    def _now(self, doing: str) -> str:
        return begun(doing, now_ms(self._redis))


def fetch_lease(window: Window) -> str:
    """Return the lease that whoever fetches the window holds."""
    return f"fetch|{window.block}|{window.source}|{window.span.start_ms}"


def compact_lease(block: Block) -> str:
    """Return the lease that whoever compacts the block holds."""
    return f"compact|{block}"


def _run(run: str, part: str = "") -> str:
    return f"klines:run:{run}:{part}" if part else f"klines:run:{run}"


def _latch(block: Block) -> str:
    return f"klines:latch:{block}"


def _name(window: Window) -> str:
    return f"{window.span.start_ms}-{window.span.end_ms}-{window.source}"


def _window(block: Block, name: str) -> Window:
    start_ms, end_ms, source = name.split("-")
    return Window(block, Span(int(start_ms), int(end_ms)), Source(source))


def _calls(windows: Iterable[Window]) -> int:
    """Return the REST calls that bring what the windows bring: the measure of progress, whatever the source."""
    return sum(page_count(window.block.series, window.span) for window in windows)

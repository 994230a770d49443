"""The life of a run in Redis. Every change is one script or transaction, and idempotent."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import cast

from redis import Redis

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.partitions import RunPartitions
from klinefleet.tasks.runs.progress import COUNTERS, Backlog, PartitionState, Progress, State
from klinefleet.tasks.runs.records import REST_AWAY, Level, Record
from klinefleet.tasks.runs.scripts import RunScripts, count_arguments, record_arguments
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError, RestAway, Unreadable
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.redis_keys import ACTIVE, KEEP_MS, NEW_RUNS, RUNS, run_key
from klinefleet.workers.domain.stores import StoreRef

#: What is kept of runs that have ended: so many runs, of each so many records, unless its report
#: could not be stored, and of its request so many symbols. That makes some 5 kB a run.
KEPT_RUNS, KEPT_RECORDS, KEPT_SYMBOLS = 1_000, 20, 20
#: What follows the cause in the record of a run that goes on without REST.
_ALONE = "; the archive alone instead"


class Runs:
    """The state of all runs; `partitions` has that of their partitions.

    With a `fence`, the fencing number of a planner's lease, writes raise LeaseLost once a later
    planner leads the run.
    """

    def __init__(self, redis: Redis, fence: int | None = None) -> None:
        self._redis = redis
        self._scripts = RunScripts(redis, "runs", fence)
        self.partitions = RunPartitions(redis, fence)

    def create(
        self, request: Request, store: StoreRef | None = None, records: Iterable[Record] = ()
    ) -> str:
        """Create a run with its first records, queue it for a planner, and return its id.

        Only lanes of its `store` lead it; a run without one is led by any, as before format 2.
        """
        now = now_ms(self._redis)
        run = f"{now:x}-{secrets.token_hex(2)}"
        fields: dict[str, str | int] = {
            "request": request.to_json(),
            "state": State.RUNNING,
            "began_ms": now,
            "calls_ahead": request.calls_per_symbol() * len(request.symbols),
            "planned_us": now * 1000,
            "pool": str(request.pool),
            "weight_of_call": request.call_weight(),
            "symbols": len(request.symbols),
            **({"store": store.to_json()} if store else {}),
        }
        with self._redis.pipeline() as pipe:
            pipe.hset(run_key(run), mapping=fields)  # type: ignore[arg-type]
            for record in records:
                pipe.hset(run_key(run, "records"), record.identity, record.text)
            pipe.zadd(RUNS, {run: now})
            pipe.sadd(ACTIVE, run)
            pipe.rpush(NEW_RUNS, run)
            pipe.execute()
        return run

    def next_new_run(self, timeout_s: float) -> str | None:
        """Return a new run that has no plan task yet; None if none came within `timeout_s`."""
        found = cast("tuple[bytes, bytes] | None", self._redis.blpop([NEW_RUNS], timeout=timeout_s))
        return found[1].decode() if found else None

    def active(self) -> list[str]:
        """Return the runs that have not ended."""
        return sorted(run.decode() for run in cast("set[bytes]", self._redis.smembers(ACTIVE)))

    def newest(self) -> str | None:
        """Return the run that was created last, None if there is none."""
        return next(iter(self.recent(1)), None)

    def recent(self, limit: int) -> list[str]:
        """Return the runs that were created last, newest first."""
        runs = cast("list[bytes]", self._redis.zrange(RUNS, 0, limit - 1, desc=True))
        return [run.decode() for run in runs]

    def progress(self, run: str) -> Progress | None:
        """Return the run's recorded progress, None for an unknown run.

        Raises Unreadable if a newer version has written its request.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(run_key(run))
            pipe.hgetall(run_key(run, "records"))
            fields, records = map(_decode, pipe.execute())
        if "request" not in fields:
            return None
        request = _parse_request(run, fields["request"])
        return Progress(
            run,
            State(fields["state"]),
            request,
            int(fields["began_ms"]),
            int(fields["ended_ms"]) if "ended_ms" in fields else None,
            now_ms(self._redis),
            {name: int(fields.get(name, 0)) for name in COUNTERS},
            [Record.from_identity(*record) for record in records.items()],
            StoreRef.from_json(fields["store"]).id if "store" in fields else "",
            int(fields.get("symbols", len(request.symbols))),
            int(fields.get("moved", 0)),
        )

    def request(self, run: str) -> Request | None:
        """Return the run's request, None for an unknown run.

        Raises Unreadable if a newer version has written it.
        """
        text = cast("bytes | None", self._redis.hget(run_key(run), "request"))
        return _parse_request(run, text) if text else None

    def store(self, run: str) -> StoreRef | None:
        """Return the store that the run is for; None for an unknown run, or one without a store."""
        text = cast("bytes | None", self._redis.hget(run_key(run), "store"))
        return StoreRef.from_json(text) if text else None

    def active_stores(self) -> dict[str, StoreRef]:
        """Return the stores of the runs that have not ended, by run; not of those without one."""
        return {run: store for run in self.active() if (store := self.store(run))}

    def state(self, run: str) -> State | None:
        """Return the run's state, None for an unknown run."""
        state = cast("bytes | None", self._redis.hget(run_key(run), "state"))
        return State(state.decode()) if state else None

    def failed_windows(self, run: str) -> int:
        """Return how many windows of the run have failed."""
        return int(cast("bytes | None", self._redis.hget(run_key(run), "windows_failed")) or 0)

    def records(self, run: str) -> list[Record]:
        """Return the run's failures, reports and notes."""
        records = cast("dict[bytes, bytes]", self._redis.hgetall(run_key(run, "records")))
        return [Record.from_identity(*record) for record in _decode(records).items()]

    def record(self, run: str, *records: Record, replacing: Iterable[Record] = ()) -> None:
        """Add records to the run and remove those in `replacing`.

        The records of a run that has ended stay as they are.
        """
        if records:
            removed = (record.identity for record in replacing)
            self._scripts.call("record", run, *record_arguments(records), *removed)

    def mark_rest_away(self, run: str, fault: FleetError) -> None:
        """Have the run go on with the archive alone: REST does not answer it."""
        self.record(run, replace(REST_AWAY, text=f"{fault.reason}{_ALONE}"))

    def rest_fault(self, run: str) -> RestAway | None:
        """Return why the run goes on without REST; None if it may ask it."""
        text = cast("bytes | None", self._redis.hget(run_key(run, "records"), REST_AWAY.identity))
        return RestAway(text.decode().removesuffix(_ALONE)) if text else None

    def mark_plan_sent(self, run: str, delay_us: int = 0) -> int:
        """Return a new `sent_us` for the run's plan task; 0 if the run has ended.

        `delay_us`: the message enters the queue within that time.
        """
        return int(self._scripts.call("mark_plan_sent", run, delay_us))

    def plan_sent_us(self, runs: Sequence[str]) -> list[int]:
        """Return for each run the `sent_us` of its last plan task, 0 for an unknown run."""
        with self._redis.pipeline(transaction=False) as pipe:
            for run in runs:
                pipe.hget(run_key(run), "planned_us")
            return [int(sent_us or 0) for sent_us in pipe.execute()]

    def take_lead(self, run: str, fence: int) -> Runs | None:
        """Make a planner the run's leader and return its fenced Runs; None if the run has ended.

        Raises LeaseLost if a later planner leads it.
        """
        return Runs(self._redis, fence) if self._scripts.call("take_lead", run, fence) else None

    def cursor(self, run: str) -> tuple[int, int]:
        """Return the index of the next symbol to plan, and the ms of its next partition."""
        symbol_index, start_ms = cast(
            "list[bytes | None]", self._redis.hmget(run_key(run), ["symbol", "start_ms"])
        )
        return int(symbol_index or 0), int(start_ms or 0)

    def advance(
        self, run: str, symbol_index: int, start_ms: int, calls_ahead: int, partitions_held: int = 0
    ) -> None:
        """Move the run's cursor; `partitions_held` were skipped, as nothing of them is missing.

        `calls_ahead` are the calls for all that lies behind the new cursor.
        """
        self._scripts.call("advance", run, symbol_index, start_ms, calls_ahead, partitions_held)

    def add_counts(self, run: str, counts: Mapping[str, int]) -> None:
        """Add to the run's counters.

        A compaction adds its rows as soon as they are published: if it loses its lease later, it
        never closes its partition.
        """
        self._scripts.call("add_counts", run, *count_arguments(counts))

    def remaining_weight(self, pool: Pool) -> int:
        """Return the weight of all calls that active runs have still to make to this pool."""
        fields = ["pool", "weight_of_call", "calls_issued", "calls_done", "calls_ahead"]
        with self._redis.pipeline(transaction=False) as pipe:
            for run in self.active():
                pipe.hmget(run_key(run), fields)
            rows = pipe.execute()
        total = 0
        for run_pool, *numbers in rows:
            weight, issued, done, ahead = (int(number or 0) for number in numbers)
            if run_pool == pool.encode():
                total += weight * (max(0, issued - done) + ahead)
        return total

    def backlog(self) -> list[Backlog]:
        """Return the work in flight of each active run."""
        active = self.active()
        with self._redis.pipeline(transaction=False) as pipe:
            for run in active:
                pipe.hlen(run_key(run, "windows"))
                pipe.hkeys(run_key(run, "records"))
                pipe.hvals(run_key(run, "partitions"))
            answers = iter(pipe.execute())
        return [
            Backlog(
                windows,
                _count_failed(identities),
                [PartitionState.from_json(partition) for partition in partitions],
            )
            for windows, identities, partitions in zip(answers, answers, answers, strict=True)
        ]

    def wait_for_change(self, run: str, timeout_s: float) -> None:
        """Return when a window or partition of the run is done, or after `timeout_s`."""
        self._redis.blpop([run_key(run, "wake")], timeout=timeout_s)

    def end(
        self,
        run: str,
        state: State,
        counts: Mapping[str, int] = MappingProxyType({}),
        *,
        reported: int = 0,
    ) -> bool:
        """End the run and release all it holds, and add to its counters.

        reported: how many records its report in the store has; if they are all, and more than
        KEPT_RECORDS, they leave Redis. False if it has ended before: that state stays.
        """
        moved = reported if reported > KEPT_RECORDS else 0
        kept = (KEEP_MS, KEPT_RUNS, self._cut_request(run), moved)
        return bool(self._scripts.call("end", run, state, *kept, *count_arguments(counts)))

    def _cut_request(self, run: str) -> str:
        """Return the run's request with its first symbols; empty if it has no more, or none."""
        text = cast("bytes | None", self._redis.hget(run_key(run), "request"))
        try:
            values = json.loads(text or b"{}")
            symbols = values.get("symbols", [])
            return json.dumps(values | {"symbols": symbols[:KEPT_SYMBOLS]}) if symbols else ""
        except (ValueError, TypeError, AttributeError):  # of a version to come: it stays as it is
            return ""


def _decode(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def _parse_request(run: str, text: str | bytes) -> Request:
    try:
        return Request.from_json(text)
    except ValueError as error:
        raise Unreadable(f"run {run}: its request is of another version: {error}") from error


def _count_failed(identities: Iterable[bytes]) -> int:
    records = (Record.from_identity(identity.decode(), "") for identity in identities)
    return sum(record.level is Level.FAILED for record in records)

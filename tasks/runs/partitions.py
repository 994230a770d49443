"""The partitions and windows of a run. Every change is one script or transaction; twice is once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis

from klinefleet.tasks.runs.progress import PartitionState, State
from klinefleet.tasks.runs.records import Record
from klinefleet.tasks.runs.scripts import RunScripts, as_pairs, count_arguments, record_arguments
from klinefleet.workers.domain.errors import LeaseLost
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.redis_keys import (
    DONE_MS,
    done_key,
    run_key,
    window_field,
    window_of,
)
from klinefleet.workers.domain.series import Partition, Window


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of finishing a window."""

    is_counted: bool
    """False if the window was not pending: a second copy, or its run has ended."""
    sent_us: int
    """Redis µs for the next message: the first replacement window, or the compaction."""
    is_last: bool
    """True if it was the partition's last pending window: the partition is to be compacted now."""


@dataclass(frozen=True, slots=True)
class WorkInFlight:
    """A run's open partitions, and its pending windows with their `sent_us`, oldest first."""

    partitions: Mapping[Partition, PartitionState]
    windows: Mapping[Window, int]


@dataclass(frozen=True, slots=True)
class Refetch:
    """A window that must be fetched before its partition can be compacted."""

    window: Window
    attempt_name: str
    max_attempts: int


class RunPartitions:
    """The partitions of all runs. `klinefleet.tasks.runs` describes the phases of a partition.

    With a `fence`, the fencing number of a planner's lease, writes raise LeaseLost once a later
    planner leads the run.
    """

    def __init__(self, redis: Redis, fence: int | None = None) -> None:
        self._redis = redis
        self._scripts = RunScripts(redis, "partitions", fence)

    def claim(self, run: str, partition: Partition) -> bool:
        """Return True if the run now has the partition and may open it.

        False if it is open already, or if another active run has it: then it is deferred.
        """
        return bool(self._scripts.call("claim", run, str(partition), partition.series.symbol))

    def deferred(self, run: str) -> list[Partition]:
        """Return the partitions that another run had when this run tried to claim them."""
        names = cast("set[bytes]", self._redis.smembers(run_key(run, "deferred")))
        return sorted(Partition.parse(name.decode()) for name in names)

    def claimed_symbols(self, run: str) -> set[str] | None:
        """Return the symbols with a partition the run has ever claimed; None if Redis lost some."""
        with self._redis.pipeline() as pipe:
            pipe.smembers(run_key(run, "touched"))
            pipe.hget(run_key(run), "touched")
            symbols, count = pipe.execute()
        return {symbol.decode() for symbol in symbols} if len(symbols) == int(count or 0) else None

    def last_compacted_ms(self, partition: Partition) -> int:
        """Return the Redis ms of the partition's last compaction, 0 if it is over an hour ago."""
        return int(cast("bytes | None", self._redis.get(done_key(partition))) or 0)

    def open(
        self, run: str, partition: Partition, windows: Sequence[Window], attempt_name: str = ""
    ) -> int:
        """Open a claimed partition; without windows, it goes straight to compaction.

        Counts an attempt of `attempt_name`, if given. Returns the `sent_us` of the first message,
        0 if the partition is not claimed.
        """
        fields = map(window_field, windows)
        return int(
            self._scripts.call("open", run, str(partition), _calls(windows), attempt_name, *fields)
        )

    def release_unneeded(self, run: str, partition: Partition, attempt_name: str = "") -> None:
        """Release a claimed partition of which nothing is missing.

        Counts an attempt of `attempt_name`, if given.
        """
        self._scripts.call("release_unneeded", run, str(partition), attempt_name)

    def count_in_flight(self, run: str) -> tuple[int, int]:
        """Return the numbers of the run's pending windows and of its open partitions."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(run_key(run, "windows"))
            pipe.hlen(run_key(run, "partitions"))
            windows, partitions = pipe.execute()
        return windows, partitions

    def reconcile(self, run: str) -> WorkInFlight:
        """Return the work in flight, after repairing state that Redis has lost a part of."""
        partitions, windows = self._scripts.call("reconcile", run) or ((), ())
        states = {
            Partition.parse(name.decode()): PartitionState.from_json(state)
            for name, state in as_pairs(partitions)
        }
        pending = {window_of(field.decode()): int(sent_us) for field, sent_us in as_pairs(windows)}
        return WorkInFlight(states, dict(sorted(pending.items())))

    def states(self, run: str) -> dict[Partition, PartitionState]:
        """Return the state of each claimed or open partition."""
        states = cast("dict[bytes, bytes]", self._redis.hgetall(run_key(run, "partitions")))
        return {
            Partition.parse(name.decode()): PartitionState.from_json(state)
            for name, state in states.items()
        }

    def is_pending(self, run: str, window: Window) -> bool:
        """Return True if the window is still to be fetched for this run."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(run_key(run), "state")
            pipe.hexists(run_key(run, "windows"), window_field(window))
            state, is_pending = pipe.execute()
        return state == State.RUNNING.encode() and bool(is_pending)

    def finish_window(
        self,
        run: str,
        window: Window,
        counts: Mapping[str, int],
        *,
        records: Sequence[Record] = (),
        replacements: Sequence[Window] = (),
    ) -> Finished:
        """Count a window as fetched, or as failed for good; `replacements` become pending."""
        counters = Counter(counts) + Counter(calls_issued=_calls(replacements))
        is_counted, sent_us, is_last = self._scripts.call(
            "finish_window",
            run,
            str(window.partition),
            window_field(window),
            len(replacements),
            *map(window_field, replacements),
            *record_arguments(records),
            *count_arguments(counters),
        )
        return Finished(bool(is_counted), int(sent_us), bool(is_last))

    def begin_compaction(self, run: str, partition: Partition, fence: int) -> bool:
        """Return True if the lease with this fencing number is to compact the partition.

        Leases with an earlier number can no longer close or reopen it.
        """
        return bool(self._scripts.call("begin_compaction", run, str(partition), fence))

    def reopen(
        self, run: str, partition: Partition, fence: int, refetches: Sequence[Refetch]
    ) -> tuple[int, list[bool]]:
        """Send the partition back to fetching, for windows below their `max_attempts`.

        Returns the `sent_us` of the first window, and for each whether it became pending. Raises
        LeaseLost if another lease compacts the partition.
        """
        parts = [
            part
            for refetch in refetches
            for part in (
                window_field(refetch.window),
                refetch.attempt_name,
                refetch.max_attempts,
                _calls([refetch.window]),
            )
        ]
        answer = self._scripts.call("reopen", run, str(partition), fence, *parts)
        if not answer:
            raise LeaseLost(
                f"{partition}: another worker compacts it now, or its run has ended; "
                "nothing was published"
            )
        sent_us, *accepted = answer
        return int(sent_us), [bool(is_accepted) for is_accepted in accepted]

    def close(
        self,
        run: str,
        partition: Partition,
        fence: int,
        counts: Mapping[str, int],
        *,
        records: Sequence[Record] = (),
    ) -> bool:
        """Release a partition that was compacted, or whose compaction has failed for good.

        Returns False if it is closed already, or another lease compacts it.
        """
        parts = (
            str(partition),
            fence,
            DONE_MS,
            *record_arguments(records),
            *count_arguments(counts),
        )
        return bool(self._scripts.call("close", run, *parts, keys=[done_key(partition)]))

    def mark_sent(
        self,
        run: str,
        windows: Sequence[Window],
        partitions: Sequence[Partition] = (),
        delay_us: int = 0,
    ) -> int:
        """Return a new `sent_us` for messages to be sent again, or requeued within `delay_us`."""
        fields = map(window_field, windows)
        return int(
            self._scripts.call(
                "mark_sent", run, delay_us, len(windows), *fields, *map(str, partitions)
            )
        )

    def count_attempts(self, run: str, name: str) -> int:
        """Return how many attempts were recorded under this name."""
        return int(cast("bytes | None", self._redis.hget(run_key(run, "tries"), name)) or 0)

    def record_attempt(self, run: str, name: str, max_attempts: int) -> bool:
        """Count an attempt; return False if it was the last allowed, or the run has ended."""
        return bool(self._scripts.call("record_attempt", run, name, max_attempts))


def _calls(windows: Iterable[Window]) -> int:
    """Return the REST calls that would fetch the windows.

    Progress is measured in calls, whatever the source of a window is.
    """
    return sum(page_count(window.partition.series, window.span) for window in windows)

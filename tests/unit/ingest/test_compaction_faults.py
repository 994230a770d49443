"""Compaction that is killed, finds damage, or runs twice at once: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from klinefleet.tasks.ingest.compaction import MAX_FETCHES, compact_partition
from klinefleet.tasks.ingest.raw_rows import load_raw_objects
from klinefleet.tasks.runs.partitions import RunPartitions
from klinefleet.tasks.runs.poison import MAX_STORE_FAULTS
from klinefleet.tasks.runs.progress import Phase
from klinefleet.workers.domain.errors import ReadBackMismatch, StoreFault
from klinefleet.workers.domain.redis_keys import LEASES
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.partitions import Merged
from klinefleet.workers.lake.raw_zone import RawEntry
from tests.answers import ASKED_MS
from tests.unit.helpers.compaction import KEY, failed, lake, pending, store
from tests.unit.helpers.in_process_fleet import InProcessFleet
from tests.unit.helpers.klines import JANUARY, MINUTES, body, minutes, opens

MONTH = JANUARY.span


#: What a run calls all of January.
WHOLE = f"um BTCUSDT 1m {MONTH}"


def phases(one: InProcessFleet, run: str) -> dict[Partition, Phase]:
    return {partition: told.phase for partition, told in one.runs.partitions.states(run).items()}


def damage(one: InProcessFleet, bad: RawEntry) -> None:
    one.services.store.put(bad.key, b"not what its name says")


def spoil(one: InProcessFleet, span: Span) -> RawEntry:
    """Keep an answer that passed the fetcher's look and does not parse."""
    return one.services.raw_zone.store(
        JANUARY, span, [body(opens(span), price="4.2.1")], asked_ms=ASKED_MS
    )


def test_a_damaged_raw_object_is_fetched_again_before_the_partition_is_merged(
    one: InProcessFleet, run: str
) -> None:
    store(one, minutes(0, 500))
    damage(one, store(one, minutes(500, 1000)))
    compact_partition(one.services, run, JANUARY)
    assert one.fetches == [(run, Window(JANUARY, minutes(500, 1000)))]
    assert phases(one, run) == {JANUARY: Phase.FETCHING}
    assert pending(one, run) == [Window(JANUARY, minutes(500, 1000))]
    assert [entry.span for entry in one.services.raw_zone.entries(JANUARY)] == [minutes(0, 500)]
    one.work()
    assert lake(one) == list(opens(minutes(0, 1000)))
    assert (one.runs.partitions.states(run), failed(one, run)) == ({}, {})


def test_windows_that_do_not_parse_are_fetched_again_too(one: InProcessFleet, run: str) -> None:
    spoil(one, minutes(0, 500))
    compact_partition(one.services, run, JANUARY)
    assert lake(one) == []
    one.work()
    assert lake(one) == list(opens(minutes(0, 500)))


def test_a_window_that_comes_damaged_every_time_is_given_up_and_told(
    one: InProcessFleet, run: str
) -> None:
    tried = 0
    spoil(one, minutes(0, 500))
    compact_partition(one.services, run, JANUARY)
    while one.fetches:
        tried += 1
        assert tried < 20
        one.fetches.clear()
        spoil(one, minutes(0, 500))
        one.runs.partitions.finish_window(run, Window(JANUARY, minutes(0, 500)), {})
        compact_partition(one.services, run, JANUARY)
    assert tried == MAX_FETCHES - 1
    assert one.runs.partitions.states(run) == {}
    assert list(failed(one, run)) == [str(Window(JANUARY, minutes(0, 500)))]
    assert one.services.coverage.covered(MINUTES) == []


def test_a_window_given_up_beside_one_that_is_tried_again_is_told_all_the_same(
    one: InProcessFleet, run: str
) -> None:
    hopeless, once = minutes(0, 500), minutes(1000, 1500)
    for _ in range(MAX_FETCHES - 1):
        one.runs.partitions.record_attempt(run, str(Window(JANUARY, hopeless)), MAX_FETCHES)
    spoil(one, hopeless)
    spoil(one, once)
    compact_partition(one.services, run, JANUARY)
    one.work()
    assert one.services.coverage.covered(MINUTES) == [once]
    assert failed(one, run)


class KilledError(BaseException):
    """The process ends here and now."""


def killed_at(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, *, call: int = 1) -> None:
    """End the process at the given call of a function, before it does anything."""
    real, calls = getattr(target, name), [0]

    def dies(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise KilledError
        return real(*args, **kwargs)

    monkeypatch.setattr(target, name, dies)


STEPS: dict[str, Callable[[InProcessFleet], tuple[Any, str, int]]] = {
    "before the first publish": lambda one: (one.services.store, "publish", 1),
    "before raw objects go": lambda one: (one.services.raw_zone, "drop", 1),
    "while raw objects go": lambda one: (one.services.store, "_remove", 2),
    "before it is told": lambda one: (RunPartitions, "close", 1),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_compaction_killed_at_any_step_is_made_good_by_the_next(
    one: InProcessFleet, run: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in (0, 500, 1000):
        store(one, minutes(start, start + 500))
    with monkeypatch.context() as patched:
        target, name, call = STEPS[step](one)
        killed_at(patched, target, name, call=call)
        with pytest.raises(KilledError):
            compact_partition(one.services, run, JANUARY)
    assert phases(one, run) == {JANUARY: Phase.COMPACTING}
    compact_partition(one.services, run, JANUARY)
    assert lake(one) == list(opens(minutes(0, 1500)))
    assert one.services.coverage.covered(MINUTES) == [minutes(0, 1500)]
    assert (one.services.raw_zone.entries(JANUARY), one.runs.partitions.states(run)) == ([], {})


def test_a_compaction_killed_between_finding_damage_and_saying_so_does_not_hide_it(
    one: InProcessFleet, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(one, store(one, minutes(0, 500)))
    with monkeypatch.context() as patched:
        killed_at(patched, RunPartitions, "reopen")
        with pytest.raises(KilledError):
            compact_partition(one.services, run, JANUARY)
    compact_partition(one.services, run, JANUARY)
    one.work()
    assert one.services.coverage.covered(MINUTES) == [minutes(0, 500)] or failed(one, run)


def test_raw_objects_are_never_deleted_where_their_rows_are_not_proved(
    one: InProcessFleet, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store(one, minutes(0, 500))

    def unproved(*_: Any, **__: Any) -> int:
        raise ReadBackMismatch("not read back as written")

    monkeypatch.setattr(one.services.partitions, "merge", unproved)
    compact_partition(one.services, run, JANUARY)
    assert one.services.raw_zone.entries(JANUARY) == [kept]
    assert failed(one, run) == {WHOLE: "ReadBackMismatch: not read back as written"}
    assert one.runs.partitions.states(run) == {}


def test_a_store_that_fails_hands_the_partition_back_so_often_and_then_gives_up(
    one: InProcessFleet, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store(one, minutes(0, 500))

    def fails(*_: Any, **__: Any) -> int:
        raise StoreFault("the store is down")

    monkeypatch.setattr(one.services.partitions, "merge", fails)
    for _ in range(MAX_STORE_FAULTS - 1):
        with pytest.raises(StoreFault):
            compact_partition(one.services, run, JANUARY)
        assert phases(one, run) == {JANUARY: Phase.COMPACTING}
    compact_partition(one.services, run, JANUARY)
    assert failed(one, run) == {WHOLE: "StoreFault: the store is down"}
    assert one.services.raw_zone.entries(JANUARY) == [kept]


def test_a_damaged_partition_ends_the_partition_with_a_reason(
    one: InProcessFleet, run: str
) -> None:
    store(one, minutes(0, 500))
    one.services.store.put(KEY, b"PAR1 this is no Parquet file PAR1")
    compact_partition(one.services, run, JANUARY)
    assert one.runs.partitions.states(run) == {}
    assert list(failed(one, run)) == [WHOLE]
    assert len(one.services.raw_zone.entries(JANUARY)) == 1


def test_what_another_compaction_has_taken_meanwhile_is_not_missed(one: InProcessFleet) -> None:
    first, second = store(one, minutes(0, 500)), store(one, minutes(500, 1000))
    one.services.raw_zone.drop([first])
    loaded = load_raw_objects(one.services, [first, second])
    frames, damaged = loaded.frames, loaded.damaged
    assert [e for e, _ in frames] == [second]
    assert damaged == []


def test_two_compactions_at_once_lose_nothing(
    one: InProcessFleet, run: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second compaction runs between the first one's reading and its publishing."""
    for start in (0, 500):
        store(one, minutes(start, start + 500))
    real, inside = one.services.partitions.merge, [False]

    def merge(*args: Any, **options: Any) -> Merged:
        if not inside[0]:
            inside[0] = True
            store(one, minutes(1000, 1500))
            redis.delete(LEASES)
            compact_partition(one.services, run, JANUARY)
        return real(*args, **options)

    monkeypatch.setattr(one.services.partitions, "merge", merge)
    compact_partition(one.services, run, JANUARY)
    assert lake(one) == list(opens(minutes(0, 1500)))
    assert one.services.coverage.covered(MINUTES) == [minutes(0, 1500)]
    progress = one.runs.progress(run)
    assert progress
    assert progress.counts["partitions_done"] == 1

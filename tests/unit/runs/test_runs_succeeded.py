"""Planners and compactions with successors, partitions opened once, and lost keys of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from klinefleet.tasks.runs.partitions import Refetch
from klinefleet.tasks.runs.progress import Phase, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import LeaseLost
from tests.unit.helpers.klines import JANUARY, MINUTES
from tests.unit.helpers.run_moves import (
    FEBRUARY,
    begin,
    close,
    counts,
    phases,
    request,
    say_all_there_is,
    windows,
)


@pytest.fixture
def runs(redis: Redis) -> Runs:
    return Runs(redis)


@pytest.fixture
def run(runs: Runs) -> str:
    return runs.create(request())


def test_a_damaged_window_put_back_holds_the_compaction_up_until_it_is_in(
    runs: Runs, run: str
) -> None:
    first, second = windows(2)
    begin(runs, run, [first, second])
    assert [runs.partitions.finish_window(run, w, {}).is_last for w in (first, second)] == [
        False,
        True,
    ]
    assert runs.partitions.begin_compaction(run, JANUARY, 1)
    _, accepted = runs.partitions.reopen(run, JANUARY, 1, [Refetch(first, "first", 2)])
    assert (accepted, phases(runs, run)) == ([True], {JANUARY: Phase.FETCHING})
    assert runs.partitions.is_pending(run, first)
    assert not runs.partitions.finish_window(run, second, {}).is_counted
    assert runs.partitions.finish_window(run, first, {}).is_last


def test_a_window_is_put_back_only_so_often_and_the_partition_stays_to_be_compacted(
    runs: Runs, run: str
) -> None:
    first, second = windows(2)
    begin(runs, run, [first])
    accepted = []
    for fence in (1, 2, 3):
        runs.partitions.finish_window(run, first, {})
        assert runs.partitions.begin_compaction(run, JANUARY, fence)
        accepted.append(
            runs.partitions.reopen(run, JANUARY, fence, [Refetch(first, "first", 3)])[1]
        )
    assert accepted == [[True], [True], [False]]
    assert phases(runs, run) == {JANUARY: Phase.COMPACTING}
    assert runs.partitions.reopen(run, JANUARY, 3, [Refetch(second, "second", 2)])[1] == [True]


def test_a_compaction_that_begins_too_early_or_twice_changes_nothing(runs: Runs, run: str) -> None:
    """A message sent twice, of which the second comes when the partition has windows again."""
    begin(runs, run, windows(1))
    assert not runs.partitions.begin_compaction(run, JANUARY, 1)
    assert not runs.partitions.close(run, JANUARY, 1, {})
    runs.partitions.finish_window(run, windows(1)[0], {})
    assert close(runs, run)
    assert not runs.partitions.begin_compaction(run, JANUARY, 2)


def test_a_compaction_whose_lease_was_lost_closes_and_reopens_nothing_any_more(
    runs: Runs, run: str
) -> None:
    begin(runs, run, [])
    assert runs.partitions.begin_compaction(run, JANUARY, 1)
    assert runs.partitions.begin_compaction(run, JANUARY, 2)
    assert not runs.partitions.close(run, JANUARY, 1, {"rows": 1})
    with pytest.raises(LeaseLost, match="another worker compacts it"):
        runs.partitions.reopen(run, JANUARY, 1, [Refetch(windows(1)[0], "w", 9)])
    assert not runs.partitions.begin_compaction(run, JANUARY, 1)
    assert runs.partitions.close(run, JANUARY, 2, {"rows": 1})
    begin(runs, run, [])
    assert not runs.partitions.close(run, JANUARY, 2, {"rows": 1})


def test_of_two_planners_the_earlier_changes_nothing_any_more(runs: Runs, run: str) -> None:
    """The first stood still for longer than its lease held; both open the same partition."""
    first, second = runs.take_lead(run, 1), runs.take_lead(run, 2)
    assert first
    assert second
    assert second.partitions.claim(run, JANUARY)
    assert second.partitions.open(run, JANUARY, windows(3))
    late: list[Callable[[], object]] = [
        lambda: first.partitions.claim(run, JANUARY),
        lambda: first.partitions.open(run, JANUARY, windows(3)),
        lambda: first.partitions.release_unneeded(run, JANUARY),
        lambda: first.advance(run, 7, 7, 7),
        lambda: first.record(run, Record(Level.NOTE, "x", MINUTES)),
        lambda: first.partitions.record_attempt(run, "x", 9),
        lambda: first.partitions.reconcile(run),
        lambda: first.partitions.mark_sent(run, windows(3)),
        lambda: first.end(run, State.COMPLETE),
        lambda: runs.take_lead(run, 1),
    ]
    for write in late:
        with pytest.raises(LeaseLost, match="another planner leads it"):
            write()
    assert second.cursor(run) == (0, 0)
    assert counts(runs, run)["windows"] == 3
    assert runs.partitions.count_in_flight(run) == (3, 1)
    assert runs.state(run) is State.RUNNING
    assert runs.end(run, State.CANCELLED)


def test_a_partition_that_is_opened_twice_is_counted_once(runs: Runs, run: str) -> None:
    assert runs.partitions.claim(run, JANUARY)
    assert [bool(runs.partitions.open(run, JANUARY, windows(3))) for _ in range(2)] == [True, False]
    assert (counts(runs, run)["windows"], counts(runs, run)["partitions"]) == (3, 1)
    assert not runs.partitions.claim(run, JANUARY)


def test_a_partition_that_was_not_claimed_is_not_opened(runs: Runs, run: str) -> None:
    assert not runs.partitions.open(run, JANUARY, windows(1))
    other = runs.create(request())
    assert runs.partitions.claim(other, JANUARY)
    assert not runs.partitions.open(run, JANUARY, windows(1))
    assert runs.partitions.count_in_flight(run) == (0, 0)


def test_what_becomes_of_a_run_that_redis_has_lost_leaves_nothing_behind(
    redis: Redis, runs: Runs, run: str
) -> None:
    begin(runs, run, windows(2))
    runs.record(run, Record(Level.NOTE, "x", MINUTES))
    redis.delete(f"klines:run:{run}")
    say_all_there_is(runs, run)
    assert runs.active() == []
    assert redis.hgetall("klines:claims") == {}
    left = [key for key in redis.scan_iter() if run in key.decode()]
    assert all(redis.pttl(key) > 0 for key in left)


@pytest.mark.parametrize("lost", ["partitions", "windows"])
def test_parts_that_were_lost_with_a_redis_are_made_to_agree(
    redis: Redis, runs: Runs, run: str, lost: str
) -> None:
    begin(runs, run, windows(2))
    begin(runs, run, windows(1, FEBRUARY), FEBRUARY)
    redis.delete(f"klines:run:{run}:{lost}")
    under_way = runs.partitions.reconcile(run)
    assert under_way.windows == {}
    if lost == "partitions":
        assert under_way.partitions == {}
    else:
        assert {told.phase for told in under_way.partitions.values()} == {Phase.COMPACTING}


def test_a_partition_whose_claim_another_run_has_taken_waits_for_it(
    redis: Redis, runs: Runs, run: str
) -> None:
    begin(runs, run, windows(2))
    begin(runs, run, windows(1, FEBRUARY), FEBRUARY)
    redis.delete("klines:claims")
    other = runs.create(request())
    assert runs.partitions.claim(other, JANUARY)
    assert runs.partitions.reconcile(run).partitions.keys() == {FEBRUARY}
    assert runs.partitions.deferred(run) == [JANUARY]
    assert runs.partitions.reconcile(run).windows.keys() == set(windows(1, FEBRUARY))
    assert redis.hget("klines:claims", str(FEBRUARY)) == run.encode()


def test_the_symbols_of_which_partitions_were_claimed_are_known_or_told_to_be_lost(
    redis: Redis, runs: Runs, run: str
) -> None:
    assert runs.partitions.claimed_symbols(run) == set()
    assert runs.partitions.claim(run, JANUARY)
    assert runs.partitions.claim(run, FEBRUARY)
    assert runs.partitions.claimed_symbols(run) == {"BTCUSDT"}
    redis.delete(f"klines:run:{run}:touched")
    assert runs.partitions.claimed_symbols(run) is None


def test_what_the_version_before_left_of_a_run_does_not_stop_this_one(
    redis: Redis, runs: Runs, run: str
) -> None:
    """A rolling upgrade: the older version wrote partitions and windows in its own format."""
    redis.hset(f"klines:run:{run}:failed", "um BTCUSDT", "x")
    redis.sadd(f"klines:latch:{JANUARY}", "0-1-rest")
    redis.hset("klines:claims", str(JANUARY), run)
    assert runs.partitions.claim(run, JANUARY)
    assert runs.partitions.open(run, JANUARY, windows(1))

"""A run's state in Redis: partitions end once, counters count once, claims are exclusive."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from klinefleet.tasks.runs.progress import COUNTERS, Phase, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.markets import Market, Pool
from klinefleet.workers.domain.redis_keys import KEEP_MS
from klinefleet.workers.domain.series import Window
from klinefleet.workers.domain.spans import Span
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

ON_REDIS = settings(max_examples=40, deadline=None)


@pytest.fixture
def runs(redis: Redis) -> Runs:
    return Runs(redis)


@pytest.fixture
def run(runs: Runs) -> str:
    return runs.create(request())


@ON_REDIS
@given(number=st.integers(1, 6), seed=st.integers(0, 2**32), failing=st.sets(st.integers(0, 5)))
def test_the_last_window_of_a_partition_starts_its_compaction_once_whatever_the_order(
    redis: Redis, number: int, seed: int, failing: set[int]
) -> None:
    redis.flushdb()
    runs, rng, several = Runs(redis), random.Random(seed), windows(number)
    run = runs.create(request())
    begin(runs, run, several)
    deliveries = [w for w in several for _ in range(rng.randint(1, 3))]
    rng.shuffle(deliveries)
    fired, seen = [], set[Window]()
    for window in deliveries:
        reason = "no answer" if several.index(window) in failing else ""
        told = {"windows_failed" if reason else "windows_done": 1, "calls_done": 1, "klines": 100}
        records = [Record.for_window(Level.FAILED, window, reason)] if reason else []
        fired.append(runs.partitions.finish_window(run, window, told, records=records).is_last)
        assert fired[-1] == (set(several) - seen == {window})
        seen.add(window)
        assert phases(runs, run) == {
            JANUARY: Phase.COMPACTING if len(seen) == number else Phase.FETCHING
        }
        assert runs.partitions.reconcile(run).windows.keys() == set(several) - seen
    assert sum(fired) == 1
    failed = {n for n in failing if n < number}
    wanted = {
        "windows": number,
        "windows_failed": len(failed),
        "windows_done": number - len(failed),
    }
    wanted |= {
        "calls_done": number,
        "klines": 100 * number,
        "calls_issued": number,
        "partitions": 1,
    }
    got = counts(runs, run)
    assert {name: got.get(name, 0) for name in wanted} == wanted
    progress = runs.progress(run)
    assert progress
    assert progress.failed == {str(several[n]): "no answer" for n in failed}


def test_threads_that_finish_at_once_fire_one_compaction(
    redis: Redis, runs: Runs, run: str
) -> None:
    several = windows(40)
    begin(runs, run, several)
    fired: list[bool] = []

    def finish(part: list[Window]) -> None:
        mine = Runs(redis)
        fired.extend(
            mine.partitions.finish_window(run, window, {"windows_done": 1}).is_last
            for window in part
        )

    threads = [threading.Thread(target=finish, args=[several]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(fired) == {True: 1, False: 159}
    assert counts(runs, run)["windows_done"] == 40


def test_a_partition_without_windows_goes_straight_to_compaction(runs: Runs, run: str) -> None:
    begin(runs, run, [])
    assert phases(runs, run) == {JANUARY: Phase.COMPACTING}
    assert runs.partitions.reconcile(run).windows == {}


def test_a_window_is_wanted_until_it_is_in_or_its_run_has_ended(runs: Runs, run: str) -> None:
    first, second = windows(2)
    begin(runs, run, [first, second])
    assert runs.partitions.is_pending(run, first)
    runs.partitions.finish_window(run, first, {})
    assert not runs.partitions.is_pending(run, first)
    assert runs.partitions.is_pending(run, second)
    runs.end(run, State.CANCELLED)
    assert not runs.partitions.is_pending(run, second)
    assert not runs.partitions.is_pending("never was", second)


def test_a_late_window_of_a_cancelled_run_does_not_count_for_the_next_run(
    runs: Runs, run: str
) -> None:
    """Cancelled while a worker was fetching; the next run waits for the same windows."""
    several = windows(2)
    begin(runs, run, several)
    runs.end(run, State.CANCELLED)
    again = runs.create(request())
    begin(runs, again, several)
    assert not runs.partitions.finish_window(run, several[0], {"calls_done": 1}).is_counted
    assert runs.partitions.is_pending(again, several[0])
    runs.partitions.finish_window(again, several[0], {"windows_done": 1})
    runs.partitions.finish_window(again, several[1], {"windows_done": 1})
    assert runs.partitions.count_in_flight(again)[0] == 0


def test_a_claimed_partition_defers_every_other_living_run(runs: Runs, run: str) -> None:
    other = runs.create(request())
    assert runs.partitions.claim(run, JANUARY)
    assert runs.partitions.claim(run, JANUARY)
    assert not runs.partitions.claim(other, JANUARY)
    assert not runs.partitions.claim(other, JANUARY)
    assert runs.partitions.claim(other, FEBRUARY)
    assert (runs.partitions.deferred(other), runs.partitions.deferred(run)) == ([JANUARY], [])


@pytest.mark.parametrize("how", ["compacted", "held", "ended"])
def test_a_partition_that_was_let_go_of_is_the_next_runs(runs: Runs, run: str, how: str) -> None:
    other = runs.create(request())
    assert runs.partitions.claim(run, JANUARY)
    assert not runs.partitions.claim(other, JANUARY)
    if how == "compacted":
        runs.partitions.open(run, JANUARY, [])
        assert close(runs, run)
    elif how == "held":
        runs.partitions.release_unneeded(run, JANUARY)
    else:
        runs.end(run, State.INCOMPLETE)
    assert runs.partitions.deferred(other) == [JANUARY]
    assert runs.partitions.claim(other, JANUARY)
    assert runs.partitions.deferred(other) == []


def test_the_claim_of_a_run_that_is_known_no_more_is_taken_over(
    redis: Redis, runs: Runs, run: str
) -> None:
    redis.hset("klines:claims", str(JANUARY), "a-run-of-last-year")
    assert runs.partitions.claim(run, JANUARY)
    other = runs.create(request())
    assert not runs.partitions.claim(other, JANUARY)


def test_the_claim_of_a_dead_run_is_taken_over_by_one_run_alone(
    redis: Redis, runs: Runs, run: str
) -> None:
    other = runs.create(request())
    redis.hset("klines:claims", str(JANUARY), "a-run-of-last-year")

    class Between(Redis):
        """Another process claims the partition after we have seen that its owner is dead."""

        def sismember(self, *args: object) -> object:
            answer = super().sismember(*args)  # type: ignore[arg-type]
            taken.append(runs.partitions.claim(other, JANUARY))
            return answer

    taken: list[bool] = []
    mine = Runs(Between(connection_pool=redis.connection_pool)).partitions.claim(run, JANUARY)
    assert [mine, *taken].count(True) == 1


def test_ending_lets_go_of_everything_and_keeps_what_people_want_to_know(
    redis: Redis, runs: Runs, run: str
) -> None:
    other = runs.create(request())
    begin(runs, run, windows(3))
    begin(runs, other, windows(1, FEBRUARY), FEBRUARY)
    assert not runs.partitions.claim(run, FEBRUARY)
    runs.partitions.finish_window(run, windows(3)[0], {"klines": 5})
    assert runs.partitions.record_attempt(run, "x", 3)
    refused = Record(Level.FAILED, "Refused: no such symbol", replace(MINUTES, symbol="X"))
    runs.record(run, refused, Record(Level.NOTE, "traded only then", MINUTES))
    runs.end(run, State.INCOMPLETE)
    say_all_there_is(runs, run)
    left = {key.decode() for key in redis.scan_iter() if run in key.decode()}
    assert left == {f"klines:run:{run}", f"klines:run:{run}:records"}
    assert all(0 < redis.pttl(key) <= KEEP_MS for key in left)
    assert run not in redis.hgetall("klines:claims").values()
    assert redis.hgetall("klines:claims") == {str(FEBRUARY).encode(): other.encode()}
    assert len(runs.partitions.reconcile(other).windows) == 1
    assert runs.active() == [other]
    progress = runs.progress(run)
    assert progress
    assert (progress.state, progress.counts["klines"]) == (State.INCOMPLETE, 5)
    assert progress.failed == {"um X": "Refused: no such symbol"}
    assert progress.notes == {"BTCUSDT": "traded only then"}
    assert progress.ended_ms
    assert progress.seconds >= 0.001


def test_closing_a_partition_twice_counts_its_rows_once(runs: Runs, run: str) -> None:
    begin(runs, run, [])
    assert runs.partitions.begin_compaction(run, JANUARY, 1)
    closed = [runs.partitions.close(run, JANUARY, 1, {"rows": 44_640}) for _ in range(2)]
    assert (closed, runs.partitions.states(run)) == ([True, False], {})
    assert {
        name: counts(runs, run)[name] for name in ("partitions", "partitions_done", "rows")
    } == {
        "partitions": 1,
        "partitions_done": 1,
        "rows": 44_640,
    }


def test_closing_does_not_let_go_of_a_partition_that_another_run_has_now(
    redis: Redis, runs: Runs, run: str
) -> None:
    begin(runs, run, [])
    assert runs.partitions.begin_compaction(run, JANUARY, 1)
    redis.hset("klines:claims", str(JANUARY), "another")
    runs.partitions.close(run, JANUARY, 1, {"rows": 1})
    assert redis.hget("klines:claims", str(JANUARY)) == b"another"


def test_a_partition_that_could_not_be_compacted_is_told_with_its_reason(
    runs: Runs, run: str
) -> None:
    begin(runs, run, [])
    assert close(runs, run, why="Unproved: not what was written")
    progress = runs.progress(run)
    assert progress
    assert progress.failed == {f"um BTCUSDT 1m {JANUARY.span}": "Unproved: not what was written"}


def test_a_planner_can_tell_that_a_partition_was_compacted_since_it_looked(
    redis: Redis, runs: Runs, run: str
) -> None:
    assert runs.partitions.last_compacted_ms(JANUARY) == 0
    begin(runs, run, [])
    assert close(runs, run)
    seconds, _ = redis.time()
    assert abs(runs.partitions.last_compacted_ms(JANUARY) - seconds * 1000) < 5_000
    assert runs.partitions.last_compacted_ms(FEBRUARY) == 0


def test_tries_are_counted_by_name_and_bounded(runs: Runs, run: str) -> None:
    assert [runs.partitions.record_attempt(run, "a", 3) for _ in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert runs.partitions.record_attempt(run, "b", 3)


def test_windows_in_flight_are_those_issued_and_not_done(runs: Runs, run: str) -> None:
    assert runs.partitions.count_in_flight(run)[0] == 0
    begin(runs, run, windows(3))
    runs.partitions.finish_window(run, windows(3)[0], {"windows_done": 1})
    assert runs.partitions.count_in_flight(run)[0] == 2


def test_the_cursor_is_where_it_was_left(runs: Runs, run: str) -> None:
    assert runs.cursor(run) == (0, 0)
    runs.advance(run, 3, 1_704_067_200_000, 77, partitions_held=5)
    assert runs.cursor(run) == (3, 1_704_067_200_000)
    assert (counts(runs, run)["calls_ahead"], counts(runs, run)["partitions_held"]) == (77, 5)


def test_a_new_run_tells_all_that_lies_ahead(runs: Runs) -> None:
    run = runs.create(request("BTCUSDT", "ETHUSDT"))
    progress = runs.progress(run)
    assert progress
    assert (progress.state, progress.ended_ms, progress.eta_s) == (State.RUNNING, None, None)
    assert progress.request == request("BTCUSDT", "ETHUSDT")
    assert progress.counts == dict.fromkeys(COUNTERS, 0) | {"calls_ahead": 2 * (90 + 84)}
    assert progress.calls_left == 348


def test_the_end_is_foretold_from_the_pace_so_far(redis: Redis, runs: Runs, run: str) -> None:
    redis.hset(
        f"klines:run:{run}", mapping={"calls_issued": 30, "calls_done": 10, "calls_ahead": 70}
    )
    progress = runs.progress(run)
    assert progress
    assert progress.calls_left == 90
    assert progress.eta_s == pytest.approx(9 * progress.seconds)


def test_weight_ahead_is_that_of_the_pools_own_active_runs(runs: Runs) -> None:
    futures = [runs.create(request()), runs.create(request(market=Market.COIN_M))]
    spot = runs.create(request(market=Market.SPOT))
    assert runs.remaining_weight(Pool.FUTURES) == 2 * 2 * (90 + 84)
    assert runs.remaining_weight(Pool.SPOT) == 2 * (45 + 42)
    runs.end(futures[0], State.COMPLETE)
    runs.end(spot, State.CANCELLED)
    assert runs.remaining_weight(Pool.FUTURES) == 2 * (90 + 84)
    assert runs.remaining_weight(Pool.SPOT) == 0


def test_what_is_not_known_is_none_and_no_error(runs: Runs) -> None:
    assert (runs.progress("x"), runs.request("x"), runs.state("x"), runs.newest()) == (
        None,
        None,
        None,
        None,
    )
    assert (runs.active(), runs.partitions.states("x"), runs.partitions.deferred("x")) == (
        [],
        {},
        [],
    )


def test_each_new_run_rings_once_for_a_planner(runs: Runs) -> None:
    made = [runs.create(request()) for _ in range(2)]
    assert [runs.next_new_run(0.01), runs.next_new_run(0.01)] == made
    assert runs.next_new_run(0.01) is None
    assert runs.newest() in made
    assert runs.active() == sorted(made)


def test_a_waiting_planner_hears_of_each_window_and_partition(
    redis: Redis, runs: Runs, run: str
) -> None:
    begin(runs, run, windows(1))
    for happens in (
        lambda: runs.partitions.finish_window(run, windows(1)[0], {}),
        lambda: close(runs, run),
    ):
        assert redis.llen(f"klines:run:{run}:wake") == 0
        happens()
        assert redis.llen(f"klines:run:{run}:wake") == 1
        runs.wait_for_change(run, 60)


def test_wakes_that_nobody_hears_do_not_pile_up(redis: Redis, runs: Runs, run: str) -> None:
    several = windows(50)
    begin(runs, run, several)
    for window in several:
        runs.partitions.finish_window(run, window, {})
    assert redis.llen(f"klines:run:{run}:wake") <= 10


def test_windows_not_in_yet_are_told_oldest_first_with_when_they_were_sent(
    runs: Runs, run: str
) -> None:
    several = [
        Window(JANUARY, Span(900, 1000)),
        Window(JANUARY, Span(1000, 1100)),
        Window(JANUARY, Span(99, 900)),
    ]
    assert runs.partitions.claim(run, JANUARY)
    sent_us = runs.partitions.open(run, JANUARY, several)
    sent = {window: sent_us + number for number, window in enumerate(several)}
    assert list(runs.partitions.reconcile(run).windows.items()) == sorted(sent.items())
    again_ms = runs.partitions.mark_sent(run, [several[0]], [JANUARY])
    told = runs.partitions.reconcile(run)
    assert told.windows[several[0]] == told.partitions[JANUARY].sent_us == again_ms
    assert told.windows[several[1]] == sent_us + 1
    runs.partitions.finish_window(run, several[0], {})
    runs.partitions.mark_sent(run, several[:1])
    assert several[0] not in runs.partitions.reconcile(run).windows

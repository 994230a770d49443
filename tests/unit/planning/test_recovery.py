"""Planners that crash and work that is lost: mended, and nothing issued twice."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis import Redis

from klinefleet.tasks.planning.run_context import PlannerLimits
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.progress import State
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.redis_keys import LEASES, fetch_lease
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet, series_of
from tests.unit.helpers.planning import (
    BEGAN,
    LONG_S,
    MONTHS,
    CrashError,
    always_check_lost_work,
    counts,
    covered,
    lead,
    lead_to_end,
    request,
    state,
)


@settings(max_examples=8, deadline=None)
@given(crashes=st.lists(st.integers(0, 6), max_size=4), in_flight=st.sampled_from([1, 3, 1500]))
@example(crashes=[0, 0, 1, 1], in_flight=1)
@example(crashes=[0, 1, 2], in_flight=3)
def test_a_planner_that_crashes_goes_on_without_issuing_anything_twice(
    redis: Redis, tmp_path_factory: pytest.TempPathFactory, crashes: list[int], in_flight: int
) -> None:
    redis.flushdb()
    with pytest.MonkeyPatch.context() as monkeypatch:
        one = in_process_fleet(
            redis, tmp_path_factory.mktemp("s"), {"BTCUSDT": BEGAN, "ETHUSDT": BEGAN}
        ).patch(monkeypatch)
        one.limits = PlannerLimits(windows_in_flight=in_flight, lost_work_interval_s=LONG_S)
        asked = request("BTCUSDT", "ETHUSDT", months=2, interval=Interval.M5)
        run, left = one.begin(asked), list(crashes)

        def work() -> None:
            if left and left[0] == 0:
                left.pop(0)
                raise CrashError
            if left:
                left[0] -= 1
            if one.fetches or one.compactions:
                one.fetch_one() if one.fetches else one.compact_one()

        goes_on = True
        while goes_on:
            try:
                goes_on = lead(one, run, monkeypatch, work)
            except CrashError:
                continue
        assert state(one, run) is State.COMPLETE
        for symbol in asked.symbols:
            mine = [w.span for w in one.issued if w.partition.series.symbol == symbol]
            assert sorted(mine) == sorted(set(mine))
            assert spans.union(mine) == [asked.span]
            assert sum(s.end_ms - s.start_ms for s in mine) == asked.end_ms - asked.start_ms
        got = counts(one, run)
        assert (got["partitions"], got["partitions_done"]) == (4, 4)
        assert (
            got["calls_issued"]
            == got["calls_done"]
            == sum(page_count(w.partition.series, w.span) for w in one.issued)
        )


def test_a_planner_killed_between_noting_a_partition_and_sending_it_is_mended(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows are recorded without a message: they are sent once they are missed twice."""
    run = one.begin(request(months=1))

    def dies(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(enqueue, "send_fetch", dies)
        with pytest.raises(CrashError):
            one.planner(run).lead(LONG_S)
    always_check_lost_work(one)
    lead_to_end(one, run, monkeypatch)
    assert state(one, run) is State.COMPLETE
    assert covered(one) == [request(months=1).span]
    assert counts(one, run)["calls_done"] == 90


def test_a_lost_window_is_missed_twice_before_it_is_sent_again(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_check_lost_work(one)
    run = one.begin(request(months=1))
    planner = one.planner(run)
    planner.issue()
    first, *rest = one.fetches
    one.fetches = rest
    while one.fetches:
        one.fetch_one()
    planner.resend_lost_work()
    assert one.fetches == []
    planner.resend_lost_work()
    assert one.fetches == [first]


@pytest.mark.parametrize("why", ["queued", "leased"])
def test_what_waits_in_its_queue_or_is_worked_on_is_not_sent_again(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    always_check_lost_work(one)
    run = one.begin(request(months=1))
    planner = one.planner(run)
    planner.issue()
    held = [window for _, window in one.fetches]
    one.fetches.clear()
    if why == "queued":
        redis.rpush("rest.futures", "a message")
    else:
        far_ms = int(time.time() * 1000) + 10**9
        redis.zadd(LEASES, {fetch_lease(w): far_ms for w in held})
    for _ in range(3):
        planner.resend_lost_work()
    assert one.fetches == []
    redis.delete("rest.futures", LEASES)
    for _ in range(2):
        planner.resend_lost_work()
    assert [window for _, window in one.fetches] == held


def test_a_lost_compaction_is_sent_again(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_check_lost_work(one)
    run, lost = one.begin(request(months=1)), []

    def work() -> None:
        while one.fetches:
            one.fetch_one()
        if one.compactions and not lost:
            lost.append(one.compactions.pop())
        elif one.compactions:
            one.compact_one()

    assert not lead(one, run, monkeypatch, work)
    assert lost
    assert state(one, run) is State.COMPLETE


def test_a_partition_whose_last_worker_died_before_telling_is_compacted(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_check_lost_work(one)
    run = one.begin(request(months=1))
    planner = one.planner(run)
    planner.issue()
    while one.fetches:
        one.fetch_one()
    one.compactions.clear()
    assert one.compactions == []
    for _ in range(2):
        planner.resend_lost_work()
    assert one.compactions == [(run, series_of().partition(MONTHS[0]))]

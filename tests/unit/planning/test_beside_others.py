"""A planner beside others: partitions are awaited, one planner leads, a cancelled run ends."""

from __future__ import annotations

import itertools

import pytest
from celery.exceptions import Reject
from redis import Redis

import klinefleet.tasks.plan
from klinefleet.tasks.planning.new_runs import requeue_leaderless_runs
from klinefleet.tasks.planning.planner import MAX_UNREADABLE_ATTEMPTS, Planner
from klinefleet.tasks.planning.run_context import PlannerLimits
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.partitions import RunPartitions
from klinefleet.tasks.runs.progress import PartitionState, State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Leases
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import TaskFailed
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition
from tests.unit.helpers.in_process_fleet import InProcessFleet, series_of
from tests.unit.helpers.planning import (
    LONG_S,
    MONTHS,
    always_check_lost_work,
    counts,
    covered,
    lead,
    lead_to_end,
    request,
    state,
)


def test_a_partition_that_another_run_has_is_waited_for_and_not_fetched_twice(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = one.begin(request(months=1)), one.begin(request(months=2))
    planner = one.planner(first)
    planner.issue()
    january = len(one.issued)
    waits = itertools.count()

    def work() -> None:
        if next(waits) > 3:
            one.work()

    assert not lead(one, second, monkeypatch, work)
    assert state(one, second) is State.COMPLETE
    assert [w.partition.period for w in one.issued[january:]] == ["2024-02"] * (
        len(one.issued) - january
    )
    assert covered(one) == [request(months=2).span]
    assert counts(one, second)["partitions_held"] == 1


def test_a_partition_that_had_to_wait_and_was_issued_in_a_later_turn_is_not_issued_again_at_the_end(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn that deferred it ended before the cursor moved on: the next one finds it free."""
    first, second = one.begin(request(months=1)), one.begin(request(months=1))
    [partition] = series_of().partitions(request(months=1).span)
    assert one.runs.partitions.claim(first, partition)
    assert not one.runs.partitions.claim(second, partition)
    one.runs.end(first, State.CANCELLED)
    lead_to_end(one, second, monkeypatch)
    issued = [w.span for w in one.issued]
    assert sorted(issued) == sorted(set(issued))
    assert counts(one, second)["calls_issued"] == 90


def test_a_partition_of_a_run_that_was_cancelled_is_taken_over(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = one.begin(request(months=1)), one.begin(request(months=1))
    planner = one.planner(first)
    planner.issue()
    for _ in range(4):
        one.fetch_one()
    done, sent, waits = [w.span for w in one.issued[:4]], len(one.issued), itertools.count()

    def work() -> None:
        waited = next(waits)
        if waited == 2:
            one.runs.end(first, State.CANCELLED)
        if waited > 2:
            one.work()

    assert not lead(one, second, monkeypatch, work)
    assert state(one, second) is State.COMPLETE
    assert covered(one) == [request(months=1).span]
    assert spans.union(w.span for w in one.issued[sent:]) == spans.gaps(
        done, request(months=1).span
    )


def test_a_partition_that_another_run_has_compacted_since_the_planner_looked_is_not_fetched_again(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holdings are read once a symbol; the second partition is compacted in the meantime."""
    one.limits = PlannerLimits(windows_in_flight=1)
    run, others = one.begin(request(months=2)), []
    second_month = Request(Market.USD_M, KLINES, Interval.M1, ("BTCUSDT",), MONTHS[1], MONTHS[2])

    def work() -> None:
        if not others:
            others.append(one.begin(second_month))
            planner = one.planner(others[0])
            planner.issue()
        one.work()

    assert not lead(one, run, monkeypatch, work)
    assert [w.partition.period for w in one.issued] == ["2024-01"] * 10 + ["2024-02"] * 10
    assert (counts(one, run)["partitions_held"], counts(one, others[0])["partitions_done"]) == (
        1,
        1,
    )


def test_a_cancelled_run_issues_no_more(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.limits = PlannerLimits(windows_in_flight=1)
    run = one.begin(request(months=11))

    def work() -> None:
        one.runs.end(run, State.CANCELLED)

    assert not lead(one, run, monkeypatch, work)
    assert {w.partition.period for w in one.issued} == {"2024-01"}
    assert state(one, run) is State.CANCELLED


def test_a_run_that_is_cancelled_just_as_the_planner_looks_is_never_told_to_be_complete(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partitions go with the run: a planner that sees none may think that all are done."""
    run, looks = one.begin(request(months=1)), RunPartitions.states

    def look(partitions: RunPartitions, of: str) -> dict[Partition, PartitionState]:
        if one.issued:
            one.runs.end(run, State.CANCELLED)
        return looks(partitions, of)

    monkeypatch.setattr(RunPartitions, "states", look)
    assert not lead(one, run, monkeypatch, lambda: None)
    assert one.issued
    assert state(one, run) is State.CANCELLED


def test_a_run_ends_once(one: InProcessFleet) -> None:
    run = one.begin(request(months=1))
    assert one.runs.end(run, State.CANCELLED)
    ended_ms = one.runs.progress(run).ended_ms  # type: ignore[union-attr]
    assert not one.runs.end(run, State.COMPLETE)
    assert (state(one, run), one.runs.progress(run).ended_ms) == (State.CANCELLED, ended_ms)  # type: ignore[union-attr]
    assert not one.runs.end("unknown", State.COMPLETE)
    assert one.runs.state("unknown") is None


def test_a_planner_leads_for_its_turn_only_and_says_that_the_run_goes_on(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request())
    assert one.planner(run).lead(0)
    assert one.issued == []
    monkeypatch.setattr(Runs, "wait_for_change", lambda *_: one.services.stop.set())
    assert one.planner(run).lead(LONG_S)


def test_a_run_that_is_known_no_more_is_let_go(one: InProcessFleet) -> None:
    assert not one.planner("long-gone").lead(LONG_S)


def test_only_a_run_that_nobody_leads_is_sent_a_planner(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_check_lost_work(one)
    led, lost = one.begin(request()), one.begin(request())
    with Leases(redis).hold(f"plan|{led}"):
        requeue_leaderless_runs(one.services)
        assert one.planners == [lost]
        redis.rpush("plan", "a message")
        requeue_leaderless_runs(one.services)
        assert one.planners == [lost]


def test_of_two_planners_only_one_leads(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request())
    monkeypatch.setattr(klinefleet.tasks.plan.app, "services", one.services, raising=False)
    monkeypatch.setattr(Planner, "lead", lambda *_: pytest.fail("two planners lead one run"))
    with Leases(redis).hold(f"plan|{run}"):
        klinefleet.tasks.plan.plan.run(run)
    assert one.planners == []


def test_a_planner_whose_turn_is_over_sends_for_the_next(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request())
    monkeypatch.setattr(klinefleet.tasks.plan.app, "services", one.services, raising=False)
    monkeypatch.setattr(Planner, "lead", lambda *_: True)
    klinefleet.tasks.plan.plan.run(run)
    assert one.planners == [run]
    monkeypatch.setattr(Planner, "lead", lambda *_: False)
    klinefleet.tasks.plan.plan.run(run)
    assert one.planners == [run]


def test_a_run_of_a_later_version_is_handed_back_to_its_workers_and_ends_at_last(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling upgrade: an old worker takes the run that a new command has begun."""
    run = one.begin(request())
    redis.hset(f"klines:run:{run}", "request", request().to_json().replace('"1m"', '"1ns"'))
    monkeypatch.setattr(klinefleet.tasks.plan.app, "services", one.services, raising=False)
    one.services.stop.set()  # a process that ends hands back without a pause
    for _ in range(MAX_UNREADABLE_ATTEMPTS - 1):
        with pytest.raises(Reject):
            klinefleet.tasks.plan.plan.run(run, "what a later version tells besides")
        assert state(one, run) is State.RUNNING
    with pytest.raises(TaskFailed, match="of another version"):
        klinefleet.tasks.plan.plan.run(run)
    assert state(one, run) is State.INCOMPLETE


def test_a_planner_that_fails_after_another_has_succeeded_it_does_not_end_the_run(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request())
    monkeypatch.setattr(klinefleet.tasks.plan.app, "services", one.services, raising=False)

    def fails(planner: Planner, seconds: float) -> bool:
        assert one.runs.take_lead(run, 2**62)
        raise TaskFailed("something that cannot pass")

    monkeypatch.setattr(Planner, "lead", fails)
    klinefleet.tasks.plan.plan.run(run)
    assert state(one, run) is State.RUNNING
    progress = one.runs.progress(run)
    assert progress
    assert progress.failed == {}

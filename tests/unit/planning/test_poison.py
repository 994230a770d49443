"""Work that kills its workers, or that nobody can do: after some times it has failed, with why."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest
from redis import Redis

from klinefleet.tasks.planning.new_runs import requeue_leaderless_runs
from klinefleet.tasks.planning.plan_run import plan_run
from klinefleet.tasks.planning.planner import Planner
from klinefleet.tasks.runs.poison import (
    MAX_DEATHS,
    MAX_LOSSES,
    MAX_UNFORESEEN,
    cause_of_deaths,
)
from klinefleet.tasks.runs.progress import State
from klinefleet.workers.coordination.leases import dead_holders
from klinefleet.workers.domain.errors import Unforeseen
from klinefleet.workers.domain.redis_keys import (
    LEASES,
    MEMORY,
    OWNERS,
    compact_lease,
    fetch_lease,
    plan_lease,
)
from klinefleet.workers.lake.partitions import Partitions
from tests.unit.helpers.in_process_fleet import InProcessFleet, RunPlanner
from tests.unit.helpers.planning import always_check_lost_work, lead, request, state

COMPACTOR = "compact|host|7"
GIB = 1 << 30


def die_with(redis: Redis, leases: Iterable[str], process: str = COMPACTOR) -> None:
    """Leave leases as a process does that is killed."""
    for lease in leases:
        redis.zadd(LEASES, {lease: 1})
        redis.hset(OWNERS, lease, f"{process}#1")


def failures(one: InProcessFleet, run: str) -> list[str]:
    progress = one.runs.progress(run)
    assert progress
    return sorted(set(progress.failed.values()))


def begin(one: InProcessFleet) -> tuple[str, RunPlanner]:
    always_check_lost_work(one)
    run = one.begin(request(months=1))
    planner = one.planner(run)
    planner.issue()
    return run, planner


def lose(planner: RunPlanner) -> None:
    """Have the planner miss what is lost twice, so that it is lost."""
    planner.resend_lost_work()
    planner.resend_lost_work()


def test_windows_whose_workers_die_have_failed_after_the_third_time_and_the_run_ends(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, planner = begin(one)
    poisonous = one.fetches.pop(0)
    while one.fetches:
        one.fetch_one()
    for death in range(1, MAX_DEATHS + 1):
        die_with(redis, [fetch_lease(poisonous[1])])
        lose(planner)
        assert one.fetches == ([poisonous] if death < MAX_DEATHS else [])
        one.fetches.clear()
    assert not lead(one, run, monkeypatch, one.work)
    assert state(one, run) is State.INCOMPLETE
    assert failures(one, run) == [f"its worker was killed {MAX_DEATHS} times"]
    assert not redis.exists(LEASES, OWNERS)


def test_a_compaction_whose_workers_die_has_failed_with_the_memory_that_they_had(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, planner = begin(one)
    while one.fetches:
        one.fetch_one()
    (_, partition) = one.compactions.pop()
    redis.hset(MEMORY, COMPACTOR, f"{GIB * 9 // 10}/{GIB}/{2**42}")
    for _ in range(MAX_DEATHS):
        assert one.compactions == []
        die_with(redis, [compact_lease(partition)])
        lose(planner)
        del one.compactions[:1]
    assert not lead(one, run, monkeypatch, one.work)
    assert state(one, run) is State.INCOMPLETE
    (reason,) = failures(one, run)
    assert reason == (
        "its worker was killed 3 times, the last time at 922 MiB of 1.0 GiB: out of memory?"
    )
    assert not redis.exists(LEASES, OWNERS)


def test_work_that_was_lost_without_a_death_is_sent_again_often_and_not_for_ever(
    one: InProcessFleet, redis: Redis
) -> None:
    run, planner = begin(one)
    sent = len(one.fetches)
    for _ in range(MAX_LOSSES - 1):
        one.fetches.clear()
        lose(planner)
        assert len(one.fetches) == sent
    lose(planner)
    assert failures(one, run) == ["its message was lost 20 times (see the workers' logs)"]


def test_a_worker_that_ends_in_order_has_not_died(one: InProcessFleet, redis: Redis) -> None:
    with one.services.leases.hold("work"):
        assert dead_holders(redis, ["work"]) == {}
    assert dead_holders(redis, ["work"]) == {}
    die_with(redis, ["work"], "plan|host|1")
    assert dead_holders(redis, ["work", "other"]) == {"work": "plan|host|1"}
    assert dead_holders(redis, []) == {}


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (None, "killed 3 times"),
        (f"{GIB // 8}/{GIB}", "the last time at 128 MiB of 1.0 GiB"),
        (f"{3 * GIB}/{4 * GIB}", "the last time at 3.0 GiB of 4.0 GiB: out of memory?"),
    ],
)
def test_what_is_known_of_the_last_death_is_told(
    redis: Redis, report: str | None, text: str
) -> None:
    if report:
        redis.hset(MEMORY, COMPACTOR, f"{report}/{2**42}")
    redis.hset(MEMORY, "another|host|8", f"1/{GIB}/1")
    assert cause_of_deaths(redis, COMPACTOR).endswith(text)


def break_merge(monkeypatch: pytest.MonkeyPatch, broken: list[int]) -> None:
    merge = Partitions.merge

    def breaks(*given: object, **how: object) -> object:
        if broken:
            broken.pop()
            raise ZeroDivisionError("of no use")
        return merge(*given, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Partitions, "merge", breaks)


def test_what_nobody_foresaw_is_tried_again_and_then_has_failed(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = begin(one)
    break_merge(monkeypatch, [1] * MAX_UNFORESEEN)
    while one.fetches:
        one.fetch_one()
    (sent,) = one.compactions
    with caplog.at_level(logging.ERROR):
        for _ in range(MAX_UNFORESEEN - 1):
            with pytest.raises(Unforeseen, match="ZeroDivisionError of no use"):
                one.compact_one()
            one.compactions.append(sent)
    assert "test_poison.py" in caplog.text, "nobody can find the cause"
    one.compact_one()
    assert not lead(one, run, monkeypatch, one.work)
    assert state(one, run) is State.INCOMPLETE
    (reason,) = failures(one, run)
    assert reason.startswith("Unforeseen: nobody foresaw that it fails with ZeroDivisionError")


def test_what_nobody_foresaw_and_that_passes_costs_nothing(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = begin(one)
    break_merge(monkeypatch, [1])
    while one.fetches:
        one.fetch_one()
    sent = list(one.compactions)
    with pytest.raises(Unforeseen):
        one.compact_one()
    one.compactions += sent
    assert not lead(one, run, monkeypatch, one.work)
    assert state(one, run) is State.COMPLETE


def test_a_run_whose_planner_fails_in_a_way_that_nobody_foresaw_ends(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request(months=1))

    def breaks(*_: object) -> None:
        raise KeyError("symbol")

    monkeypatch.setattr(Planner, "lead", breaks)
    for _ in range(MAX_UNFORESEEN):
        assert state(one, run) is State.RUNNING
        with pytest.raises(Unforeseen):
            plan_run(one.services, run)
    assert state(one, run) is State.INCOMPLETE
    assert plan_run(one.services, run) == 0


def test_a_run_whose_planners_die_where_they_stand_ends_and_one_that_goes_on_does_not(
    one: InProcessFleet, redis: Redis
) -> None:
    run = one.begin(request(months=2))
    for death in range(2 * MAX_DEATHS - 1):
        die_with(redis, [plan_lease(run)], "plan|host|1")
        if death == MAX_DEATHS - 1:
            one.runs.advance(run, 0, request().start_ms + 1, 0)
        assert state(one, run) is State.RUNNING
        requeue_leaderless_runs(one.services)
    assert state(one, run) is State.INCOMPLETE
    assert failures(one, run) == [f"its worker was killed {MAX_DEATHS} times"]
    assert len(one.planners) == 2 * MAX_DEATHS - 2

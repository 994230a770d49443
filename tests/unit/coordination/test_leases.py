"""Heartbeats and leases in a real Redis.

Time is not waited for: what has lapsed is set back in Redis.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from redis import ConnectionError, Redis

from klinefleet.tasks.fleet.periodic import run_periodically
from klinefleet.workers.coordination import heartbeat
from klinefleet.workers.coordination.heartbeat import Heartbeat, live_workers, total_width
from klinefleet.workers.coordination.leases import LEASE_TTL_MS, Lease, Leases, are_leased
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import LeaseLost
from klinefleet.workers.domain.redis_keys import FENCE, LEASES
from tests.unit.helpers.leases import let_pass

NAME = "fetch|um/klines/1m/BTCUSDT/2024-01|0"


def test_a_lease_is_one_processes_alone_while_it_lives(redis: Redis) -> None:
    with Leases(redis).hold(NAME) as mine, Leases(redis).hold(NAME) as others:
        assert mine
        assert others is None
        assert are_leased(redis, [NAME]) == [True]


def test_a_lease_that_was_refused_is_not_released_by_the_one_refused(redis: Redis) -> None:
    with Leases(redis).hold(NAME):
        with Leases(redis).hold(NAME):
            pass
        assert are_leased(redis, [NAME]) == [True]
        with Leases(redis).hold(NAME) as third:
            assert not third


def test_a_lease_is_released_when_the_work_is_done_or_fails(redis: Redis) -> None:
    first = Leases(redis)
    with first.hold(NAME):
        pass
    assert are_leased(redis, [NAME]) == [False]
    with pytest.raises(RuntimeError), first.hold(NAME):
        raise RuntimeError
    assert are_leased(redis, [NAME]) == [False]
    with Leases(redis).hold(NAME) as mine:
        assert mine


def test_names_are_leased_apart(redis: Redis) -> None:
    with Leases(redis).hold("a") as a, Leases(redis).hold("b") as b:
        assert a
        assert b
        assert are_leased(redis, ["b", "c", "a"]) == [True, False, True]
    assert are_leased(redis, []) == []


def test_the_lease_of_a_dead_process_lapses(redis: Redis) -> None:
    with Leases(redis).hold(NAME):
        let_pass(redis, LEASE_TTL_MS - 1000)
        assert are_leased(redis, [NAME]) == [True]
        let_pass(redis, 1000)
        assert are_leased(redis, [NAME]) == [False]
        with Leases(redis).hold(NAME) as successor:
            assert successor


def test_a_renewal_keeps_the_leases(redis: Redis) -> None:
    mine = Leases(redis)
    with mine.hold(NAME):
        let_pass(redis, LEASE_TTL_MS - 1000)
        mine.renew()
        let_pass(redis, LEASE_TTL_MS - 1000)
        assert are_leased(redis, [NAME]) == [True]


def test_a_beat_never_brings_back_what_was_released(redis: Redis) -> None:
    mine = Leases(redis)
    with mine.hold(NAME):
        redis.zrem(LEASES, NAME)
        mine.renew()
        assert are_leased(redis, [NAME]) == [False]


def test_a_process_that_was_paused_does_not_release_its_successors_lease(redis: Redis) -> None:
    """Suspended for longer than a lease holds, then going on as if nothing had been."""
    with Leases(redis).hold(NAME):
        let_pass(redis, LEASE_TTL_MS + 1)
        successor = Leases(redis).hold(NAME)
        assert successor.__enter__()
    try:
        assert are_leased(redis, [NAME]) == [True]
    finally:
        successor.__exit__(None, None, None)


def test_threads_that_ask_at_once_get_one_lease(redis: Redis) -> None:
    processes, got, done = [Leases(redis) for _ in range(8)], [], threading.Barrier(8)

    def ask(one: Leases) -> None:
        with one.hold(NAME) as mine:
            got.append(mine is not None)
            done.wait(60)

    threads = [threading.Thread(target=ask, args=[one]) for one in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_a_live_process_is_listed_by_what_it_serves(redis: Redis) -> None:
    Heartbeat(redis, Leases(redis), serves="plan").beat()
    Heartbeat(redis, Leases(redis), serves="rest.spot@home").beat()
    Heartbeat(redis, Leases(redis)).beat()
    assert sorted(live_workers(redis)) == ["plan", "rest.spot@home"]


def test_a_process_that_is_gone_is_not_listed_for_long(redis: Redis) -> None:
    Heartbeat(redis, Leases(redis), serves="plan").beat()
    let_pass(redis, LEASE_TTL_MS - 1000)
    assert live_workers(redis) == ["plan"]
    let_pass(redis, 1001)
    assert live_workers(redis) == []


def test_a_process_that_stops_is_not_listed_at_all(redis: Redis) -> None:
    mine, other = (
        Heartbeat(redis, Leases(redis), serves="plan"),
        Heartbeat(redis, Leases(redis), serves="compact"),
    )
    mine.beat()
    other.beat()
    mine.stop()
    assert live_workers(redis) == ["compact"]


def test_the_widths_of_a_pool_are_those_of_its_living_processes(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for serves, width in (
        ("rest.spot@a", 3),
        ("rest.spot@b", 4),
        ("rest.futures@a", 50),
        ("plan", 9),
    ):
        Heartbeat(redis, Leases(redis), serves=serves).report_width(width, 50)
    assert total_width(redis, "spot") == (7, 100)
    assert total_width(redis, "futures") == (50, 50)
    later_ms = now_ms(redis) + 2 * LEASE_TTL_MS + 1000
    monkeypatch.setattr(heartbeat, "now_ms", lambda _: later_ms)
    assert total_width(redis, "spot") == (0, 0)


class Thrice(threading.Event):
    """Lets a loop go round three times, in no time."""

    rounds = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.rounds += 1
        if self.rounds == 3:
            self.set()
        return self.is_set()


def test_a_chore_that_fails_stops_neither_the_others_nor_the_next_round() -> None:
    done: list[str] = []

    def fails() -> None:
        done.append("fails")
        raise ValueError("a chore went wrong")

    run_periodically([fails, lambda: done.append("other")], Thrice())
    assert done == ["fails", "other"] * 3


def test_a_beat_that_fails_does_not_stop_the_heartbeat(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[int] = []

    def fails() -> None:
        beats.append(1)
        raise ConnectionError("gone")

    mine = Heartbeat(redis, Leases(redis), serves="plan")
    mine._stopped = Thrice()
    monkeypatch.setattr(mine, "beat", fails)
    mine._run()
    assert len(beats) == 3


def test_a_lease_is_lost_by_the_clock_of_the_process_that_stood_still() -> None:
    """It must not write before the heartbeat has noticed: there may be a successor already."""
    now_s = 0.0
    lease = Lease("plan|x", 1, 8.0, clock=lambda: now_s)
    now_s = 7.9
    lease.check()
    now_s = 8.0
    assert lease.is_lost
    with pytest.raises(LeaseLost, match=r"plan\|x"):
        lease.check()


def test_a_renewal_keeps_a_lease_or_marks_it_as_lost(redis: Redis) -> None:
    mine = Leases(redis)
    with mine.hold(NAME) as lease:
        assert lease
        lease.extend(0)
        mine.renew()
        assert not lease.is_lost
        redis.delete(LEASES)
        with Leases(redis).hold(NAME):
            mine.renew()
            assert lease.is_lost


def test_later_leases_have_greater_fencing_numbers_even_where_the_clock_goes_back(
    redis: Redis,
) -> None:
    numbers = []
    for name in ("a", "b", "a"):
        with Leases(redis).hold(name) as lease:
            assert lease
            numbers.append(lease.fence)
    redis.set(FENCE, numbers[-1] + 10**9)
    with Leases(redis).hold("a") as lease:
        assert lease
        numbers.append(lease.fence)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == numbers[-2] + 10**9 + 1


def test_a_redis_that_is_gone_does_not_hide_what_the_work_ended_with(redis: Redis) -> None:
    class Gone(Redis):
        def zrem(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError("gone")

    gone = Gone(connection_pool=redis.connection_pool)
    with pytest.raises(RuntimeError, match="the work's own end"), Leases(gone).hold(NAME):
        raise RuntimeError("the work's own end")

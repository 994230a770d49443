"""Signs of life and leases in a real Redis. Time is not waited for: what has lapsed is set back in Redis."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from redis import ConnectionError, Redis

from workers import heart
from workers.chores import do_chores
from workers.errors import LeaseLost
from workers.heart import FENCE, HOLDS_MS, LEASES, WORKERS, Heart, Lease, leased, living, now_ms

NAME = "fetch|um/klines/1m/BTCUSDT/2024-01|0"


def let_pass(redis: Redis, ms: int) -> None:
    """Set back all that holds for a while, as if so much time had passed."""
    for key in (LEASES, WORKERS):
        for name in redis.zrange(key, 0, -1):
            redis.zincrby(key, -ms, name)


def test_a_lease_is_one_processes_alone_while_it_lives(redis: Redis) -> None:
    with Heart(redis).lease(NAME) as mine, Heart(redis).lease(NAME) as others:
        assert mine
        assert others is None
        assert leased(redis, [NAME]) == [True]


def test_a_lease_that_was_refused_is_not_released_by_the_one_refused(redis: Redis) -> None:
    with Heart(redis).lease(NAME):
        with Heart(redis).lease(NAME):
            pass
        assert leased(redis, [NAME]) == [True]
        with Heart(redis).lease(NAME) as third:
            assert not third


def test_a_lease_is_released_when_the_work_is_done_or_fails(redis: Redis) -> None:
    first = Heart(redis)
    with first.lease(NAME):
        pass
    assert leased(redis, [NAME]) == [False]
    with pytest.raises(RuntimeError), first.lease(NAME):
        raise RuntimeError
    assert leased(redis, [NAME]) == [False]
    with Heart(redis).lease(NAME) as mine:
        assert mine


def test_names_are_leased_apart(redis: Redis) -> None:
    with Heart(redis).lease("a") as a, Heart(redis).lease("b") as b:
        assert a
        assert b
        assert leased(redis, ["b", "c", "a"]) == [True, False, True]
    assert leased(redis, []) == []


def test_the_lease_of_a_dead_process_lapses(redis: Redis) -> None:
    with Heart(redis).lease(NAME):
        let_pass(redis, HOLDS_MS - 1000)
        assert leased(redis, [NAME]) == [True]
        let_pass(redis, 1000)
        assert leased(redis, [NAME]) == [False]
        with Heart(redis).lease(NAME) as successor:
            assert successor


def test_a_heart_that_beats_keeps_its_leases(redis: Redis) -> None:
    mine = Heart(redis)
    with mine.lease(NAME):
        let_pass(redis, HOLDS_MS - 1000)
        mine._beat()
        let_pass(redis, HOLDS_MS - 1000)
        assert leased(redis, [NAME]) == [True]


def test_a_beat_never_brings_back_what_was_released(redis: Redis) -> None:
    mine = Heart(redis)
    with mine.lease(NAME):
        redis.zrem(LEASES, NAME)
        mine._beat()
        assert leased(redis, [NAME]) == [False]


def test_a_process_that_was_paused_does_not_release_its_successors_lease(redis: Redis) -> None:
    """Suspended for longer than a lease holds, then going on as if nothing had been."""
    with Heart(redis).lease(NAME):
        let_pass(redis, HOLDS_MS + 1)
        successor = Heart(redis).lease(NAME)
        assert successor.__enter__()
    try:
        assert leased(redis, [NAME]) == [True]
    finally:
        successor.__exit__(None, None, None)


def test_threads_that_ask_at_once_get_one_lease(redis: Redis) -> None:
    hearts, got, done = [Heart(redis) for _ in range(8)], [], threading.Barrier(8)

    def ask(one: Heart) -> None:
        with one.lease(NAME) as mine:
            got.append(mine is not None)
            done.wait(60)

    threads = [threading.Thread(target=ask, args=[one]) for one in hearts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_a_living_process_is_told_by_what_it_serves(redis: Redis) -> None:
    Heart(redis, serves="plan")._beat()
    Heart(redis, serves="rest.spot@home")._beat()
    Heart(redis)._beat()
    assert sorted(living(redis)) == ["plan", "rest.spot@home"]


def test_a_process_that_is_gone_is_not_told_as_living_for_long(redis: Redis) -> None:
    Heart(redis, serves="plan")._beat()
    let_pass(redis, HOLDS_MS - 1000)
    assert living(redis) == ["plan"]
    let_pass(redis, 1001)
    assert living(redis) == []


def test_a_process_that_stops_is_not_told_as_living_at_all(redis: Redis) -> None:
    mine, other = Heart(redis, serves="plan"), Heart(redis, serves="compact")
    mine._beat()
    other._beat()
    mine.stop()
    assert living(redis) == ["compact"]


def test_the_widths_of_a_pool_are_those_of_its_living_processes(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    for serves, width in (("rest.spot@a", 3), ("rest.spot@b", 4), ("rest.futures@a", 50), ("plan", 9)):
        Heart(redis, serves=serves).tell_width(width, 50)
    assert Heart(redis).widths("spot") == (7, 100)
    assert Heart(redis).widths("futures") == (50, 50)
    later_ms = now_ms(redis) + 2 * HOLDS_MS + 1000
    monkeypatch.setattr(heart, "now_ms", lambda _: later_ms)
    assert Heart(redis).widths("spot") == (0, 0)


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

    do_chores([fails, lambda: done.append("other")], Thrice())
    assert done == ["fails", "other"] * 3


def test_a_beat_that_fails_does_not_stop_the_heart(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[int] = []

    def fails() -> None:
        beats.append(1)
        raise ConnectionError("gone")

    mine = Heart(redis, serves="plan")
    mine._stopped = Thrice()
    monkeypatch.setattr(mine, "_beat", fails)
    mine._run()
    assert len(beats) == 3


def test_a_lease_is_lost_by_the_clock_of_the_process_that_stood_still() -> None:
    """It must not write before the heart has noticed: there may be a successor already."""
    now_s = 0.0
    lease = Lease("plan|x", 1, 8.0, clock=lambda: now_s)
    now_s = 7.9
    lease.check()
    now_s = 8.0
    assert lease.is_lost
    with pytest.raises(LeaseLost, match=r"plan\|x"):
        lease.check()


def test_a_beat_keeps_a_lease_and_tells_when_it_is_anothers(redis: Redis) -> None:
    mine = Heart(redis)
    with mine.lease(NAME) as lease:
        assert lease
        lease.kept_until(0)
        mine._beat()
        assert not lease.is_lost
        redis.delete(LEASES)
        with Heart(redis).lease(NAME):
            mine._beat()
            assert lease.is_lost


def test_later_leases_have_greater_fencing_numbers_even_where_the_clock_goes_back(redis: Redis) -> None:
    numbers = []
    for name in ("a", "b", "a"):
        with Heart(redis).lease(name) as lease:
            assert lease
            numbers.append(lease.fence)
    redis.set(FENCE, numbers[-1] + 10**9)
    with Heart(redis).lease("a") as lease:
        assert lease
        numbers.append(lease.fence)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == numbers[-2] + 10**9 + 1


def test_a_redis_that_is_gone_does_not_hide_what_the_work_ended_with(redis: Redis) -> None:
    class Gone(Redis):
        def zrem(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError("gone")

    gone = Gone(connection_pool=redis.connection_pool)
    with pytest.raises(RuntimeError, match="the work's own end"), Heart(gone).lease(NAME):
        raise RuntimeError("the work's own end")

"""Work done side by side for one task: nothing of it goes on after the task failed."""

from __future__ import annotations

import threading

import pytest

from klinefleet.workers.support.threads import Threads

ERROR = ValueError("this one fails")


def test_results_come_in_the_order_of_the_items_whichever_ends_first() -> None:
    second_ended = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            second_ended.wait(10)
        else:
            second_ended.set()
        return item * 10

    with Threads(2) as threads:
        assert threads.map_all(work, [1, 2]) == [10, 20]


def test_a_failure_is_raised_only_when_all_that_was_begun_has_ended() -> None:
    all_begun, ended = threading.Barrier(3), list[str]()

    def work(item: str) -> None:
        all_begun.wait(10)
        if item == "fails":
            raise ERROR
        # As long as a call may take that was sent before the other failed.
        threading.Event().wait(0.1)
        ended.append(item)

    with Threads(3) as threads:
        with pytest.raises(ValueError, match="this one fails"):
            threads.map_all(work, ["fails", "slow", "slower"])
        assert sorted(ended) == ["slow", "slower"]


def test_after_a_failure_nothing_more_is_begun() -> None:
    begun = list[int]()

    def work(item: int) -> None:
        begun.append(item)
        threading.Event().wait(0.1)
        if item == 0:
            raise ERROR

    with Threads(2) as threads, pytest.raises(ValueError, match="this one fails"):
        threads.map_all(work, list(range(40)))
    assert len(begun) < 10


def test_a_pool_goes_on_with_other_tasks_after_one_has_failed() -> None:
    def work(item: int) -> int:
        if item == 0:
            raise ERROR
        return item

    with Threads(2) as threads:
        with pytest.raises(ValueError, match="this one fails"):
            threads.map_all(work, [0, 1, 2])
        assert threads.map_all(work, [3, 4]) == [3, 4]
        assert threads.map_all(work, []) == []

"""What both concurrency limits have in common, whatever sets their width."""

from __future__ import annotations

import pytest

from klinefleet.workers.limits.concurrency import AdaptiveLimit, RestSlots
from tests.unit.helpers.limited_threads import LimitedThreads


@pytest.mark.parametrize(
    "limit", [RestSlots(4), AdaptiveLimit(4)], ids=["rest_slots", "adaptive_limit"]
)
def test_narrowed_it_throws_nobody_out_and_lets_nobody_in_until_there_is_room(
    limit: RestSlots | AdaptiveLimit,
) -> None:
    threads = LimitedThreads(limit, 6)
    threads.until(inside=4)
    while limit.width > 2:
        limit.record_failure()
    assert limit.width == 2
    for gone, inside in ((1, 3), (2, 2), (3, 2), (4, 2)):
        threads.release()
        threads.until(served=gone, inside=inside)
    threads.release(2)
    threads.until(inside=0, served=6)
    assert threads.highest == 4


@pytest.mark.parametrize(
    "limit", [RestSlots(1), AdaptiveLimit(1)], ids=["rest_slots", "adaptive_limit"]
)
def test_a_call_that_fails_gives_its_slot_back(limit: RestSlots | AdaptiveLimit) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError), limit:
            raise RuntimeError
    with limit:
        pass


@pytest.mark.parametrize(
    "limit", [RestSlots(2), AdaptiveLimit(2)], ids=["rest_slots", "adaptive_limit"]
)
def test_who_comes_in_only_if_a_place_is_free_takes_none_from_those_who_wait(
    limit: RestSlots | AdaptiveLimit,
) -> None:
    with limit.if_free() as first, limit.if_free() as second, limit.if_free() as third:
        assert (first, second, third) == (True, True, False)
    threads = LimitedThreads(limit, 3)
    threads.until(inside=2)
    with limit.if_free() as is_free:
        assert not is_free
    threads.release(3)
    threads.until(inside=0, served=3)
    with limit.if_free() as is_free:
        assert is_free

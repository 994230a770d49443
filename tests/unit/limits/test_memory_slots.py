"""Memory is given in order, never more than is free, and to one alone whatever it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from klinefleet.workers.domain.errors import OverWeight
from klinefleet.workers.limits.memory_slots import SMALL, MemorySlots
from klinefleet.workers.support.stop_signal import StopSignal
from tests.processes import until

MIB = 1 << 20
IDLE = 150 * MIB


class Machine:
    """A machine with so much memory, and this process on it."""

    def __init__(self, free_mib: int) -> None:
        self.free, self.own = free_mib * MIB, IDLE
        self.stop = StopSignal()
        self.slots = MemorySlots(self.stop, free=lambda: self.free, own=lambda: self.own)
        self.order: list[str] = []
        self._ends: dict[str, threading.Event] = {}

    def begin(self, name: str, mib: int) -> threading.Thread:
        end = self._ends[name] = threading.Event()

        def work() -> None:
            with self.slots.reserved(mib * MIB, name):
                self.order.append(name)
                self.own += mib * MIB
                self.free -= mib * MIB
                end.wait(30)
                self.own -= mib * MIB
                self.free += mib * MIB

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        until(f"{name} holds or waits", lambda: name in self.order or self.waiting(), within_s=10)
        return thread

    def waiting(self) -> int:
        return len(self.slots._waiting)

    def end(self, name: str) -> None:
        self._ends[name].set()

    def began(self, *names: str) -> None:
        until(f"{names} began", lambda: self.order == list(names), within_s=10)


@contextmanager
def machine(free_mib: int) -> Iterator[Machine]:
    one = Machine(free_mib)
    with ExitStack() as stack:
        stack.callback(lambda: [end.set() for end in one._ends.values()])
        yield one


def test_two_that_fit_run_side_by_side_and_a_third_waits_for_one_of_them() -> None:
    with machine(1000) as one:
        one.begin("a", 400)
        one.began("a")
        one.begin("b", 400)
        one.began("a", "b")
        one.begin("c", 400)
        assert one.waiting() == 1
        one.end("a")
        one.began("a", "b", "c")


def test_a_big_one_is_not_passed_by_for_ever_by_smaller_ones() -> None:
    with machine(1000) as one:
        one.begin("small", 300)
        one.began("small")
        one.begin("big", 700)
        one.begin("other", 100)
        assert (one.order, one.waiting()) == (["small"], 2)
        one.end("small")
        one.began("small", "big", "other")


def test_one_alone_gets_more_than_there_is_and_others_wait_meanwhile() -> None:
    with machine(200) as one:
        one.begin("huge", 900)
        one.began("huge")
        one.begin("next", 100)
        assert one.waiting() == 1
        one.end("huge")
        one.began("huge", "next")


def test_little_never_waits() -> None:
    with machine(0) as one:
        one.begin("huge", 900)
        one.began("huge")
        with one.slots.reserved(SMALL, "small"):
            assert one.waiting() == 0


def test_what_other_processes_take_is_not_given_and_comes_back() -> None:
    with machine(1000) as one:
        one.begin("a", 100)
        one.began("a")
        one.free -= 800 * MIB
        one.begin("b", 300)
        assert one.waiting() == 1
        one.free += 800 * MIB
        one.began("a", "b")


def test_a_worker_that_ends_keeps_nobody_waiting() -> None:
    one = Machine(0)
    with one.slots.reserved(900 * MIB, "huge"):
        one.stop.set()
        with (
            pytest.raises(OverWeight, match="x: this worker is shutting down"),
            one.slots.reserved(100 * MIB, "x"),
        ):
            pytest.fail("it began")
    assert one.waiting() == 0
    with one.slots.reserved(100 * MIB, "after"):
        pass


def test_a_wait_has_an_end_and_says_what_is_needed() -> None:
    class Hasty(StopSignal):
        def wait(self, seconds: float) -> bool:
            return False

    slots = MemorySlots(Hasty(), free=lambda: 0, own=lambda: IDLE)
    with (
        slots.reserved(900 * MIB, "huge"),
        pytest.raises(OverWeight, match="compact x needs about 1,000 MiB, which did not come free"),
        slots.reserved(1000 * MIB, "compact x"),
    ):
        pytest.fail("it began")

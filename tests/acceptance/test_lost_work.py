"""Work of processes that are killed or stand still: others do it, and nothing is counted twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from klinefleet.workers.support.machine import available_cpus
from tests.expected import Wanted, lake_frame
from tests.harness import AMPLE, Fleet
from tests.invariants import assert_complete_means_held, assert_nothing_left
from tests.processes import until

FUTURES = (*AMPLE, "--symbols", "40")
MANY = tuple(f"SIM{number:03d}USDT" for number in range(1, 25))
#: Years in which all of them traded. Each is a partition and one window: of two pages of 12h
#: candles, of nine of 2h candles.
YEARS = ("2022-01-01", "2026-01-01")
#: Longer than a lease holds after the last sign of life of who has it.
LONGER_THAN_A_LEASE_S = 11.0
SLOTS, SLOW_MS, SOON_MS = "10", 600, 5
COMPACTED_AT_ONCE = min(int(SLOTS), available_cpus())

#: So many pages that one worker needs minutes for them at a second each, and a request of one page.
BIG = Wanted("um", MANY[:20], "2024-01-01", "2024-04-01")
SMALL = Wanted("um", ("BTCUSDT",), "2024-01-02", "2024-01-04", "1h")
#: The small page is out until its worker is killed; then a page takes a second.
HELD_BACK_MS, PAGE_MS = 10_000, 1_000
SOON_S = 45.0
#: Eight times longer than what is left takes once nothing is held back.
ENDS_S = 30.0


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    return fleet_of(*FUTURES, KLINES_SLOTS=SLOTS)


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Stop a process for the partition's time, and have it go on then."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def await_lapsed_leases(what: str, has_happened: Callable[[], Any]) -> None:
    """Wait until leases of a stopped process have lapsed, and `what` has happened."""
    began_s = time.monotonic()
    until(what, lambda: time.monotonic() - began_s > LONGER_THAN_A_LEASE_S and has_happened())


def served(fleet: Fleet, symbol: str) -> bool:
    return any(call["symbol"] == symbol for call in fleet.exchange.calls())


def assert_done_once(
    fleet: Fleet, wanted: Wanted, partitions: int, summary: dict[str, Any], uncounted: int = 0
) -> None:
    """The run is complete, rightly so, and counts every row and partition once.

    Up to `uncounted` rows were in the lake already when those that counted looked.
    """
    until("what is late comes in", lambda: not fleet.messages())
    assert_complete_means_held(fleet, wanted.arguments, summary)
    wanted.assert_held(fleet)
    assert (summary["klines"], summary["partitions_compacted"]) == (wanted.klines, partitions)
    assert wanted.klines - uncounted <= summary["rows_gained"] <= wanted.klines
    # The one that its planner had just issued may have been done when the successor came to it.
    assert summary["partitions_held"] <= 1, (
        f"{summary['partitions_held']} partitions count as held before, and none was"
    )


def assert_redis_is_clean(fleet: Fleet) -> None:
    with fleet.redis.client() as client:
        assert_nothing_left(client)


def test_a_small_run_whose_worker_is_killed_ends_long_before_a_big_one_that_fills_the_queue(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(*FUTURES, KLINES_SLOTS="4")
    fleet.start_worker("--queues", "plan,rest.futures,compact")
    # The listing is asked for before everything is held back.
    fleet.klines("download", "--dry-run", *SMALL.arguments)
    fleet.exchange.hold_back(HELD_BACK_MS)
    small = fleet.detach(*SMALL.arguments)
    until("the small run is at work", lambda: served(fleet, SMALL.symbols[0]))
    big = fleet.detach(*BIG.arguments)
    fleet.start_worker("--queues", "plan,rest.futures,compact")
    until("both workers are busy with the big run", lambda: len(fleet.exchange.calls()) >= 8)
    assert fleet.status(small)["state"] == "running", (
        "the small run ended before the kill: hold it back for longer"
    )
    fleet.workers.pop(0).kill_tree()
    fleet.exchange.hold_back(PAGE_MS)
    until("the small run ends", lambda: fleet.status(small)["state"] != "running", SOON_S)
    states = fleet.status(small)["state"], fleet.status(big)["state"]
    fleet.klines("cancel", big)
    assert states == ("complete", "running")
    # What was fetched for the big run stays in the raw zone.
    assert (
        lake_frame(fleet.store_url, SMALL.market, SMALL.symbols[0], SMALL.interval).height
        == SMALL.klines
    )


def test_planners_that_stood_still_and_go_on_beside_their_successors_count_nothing_twice(
    fleet: Fleet,
) -> None:
    """Eight runs, each led by a thread of one process, so that one is between any two steps."""
    every = [Wanted("um", MANY[n : n + 3], *YEARS, "2h") for n in range(0, len(MANY), 3)]
    runs = [fleet.detach(*wanted.arguments) for wanted in every]
    fleet.exchange.hold_back(SLOW_MS / 3)
    stopped = fleet.start_worker()
    planner = fleet.lanes_of(stopped)["plan"]
    until("partitions are issued", fleet.exchange.calls)
    with standing_still(planner):
        fleet.start_worker()
        await_lapsed_leases(
            "their successors issue partitions of all runs",
            lambda: all(
                any(served(fleet, symbol) for symbol in wanted.symbols) for wanted in every
            ),
        )
    fleet.exchange.hold_back(SOON_MS)
    until(
        "all runs end",
        lambda: all(fleet.status(run)["state"] != "running" for run in runs),
        ENDS_S,
    )
    for wanted, run in zip(every, runs, strict=True):
        assert_done_once(fleet, wanted, len(wanted.symbols) * 4, fleet.ended(run))
    assert max(fleet.exchange.pages().values()) == 1, "a page was served twice"
    assert_redis_is_clean(fleet)


def test_a_fetcher_that_stood_still_and_goes_on_beside_its_successor_counts_nothing_twice(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", MANY[:16], *YEARS, "12h")
    stopped = fleet.start_worker()
    fleet.start_worker()
    fleet.exchange.hold_back(SLOW_MS)
    run = fleet.detach(*wanted.arguments)
    until("windows come in", lambda: len(fleet.exchange.calls()) > 30)
    with standing_still(fleet.lanes_of(stopped)["rest.futures"]):
        fleet.exchange.hold_back(SOON_MS)
        await_lapsed_leases(
            "its successor has fetched all", lambda: fleet.status(run)["klines"] == wanted.klines
        )
    assert_done_once(fleet, wanted, len(wanted.symbols) * 4, fleet.ended(run))
    # What it had in hand, four windows of two pages, is served again; its answers of then come
    # late.
    twice = sum(times - 1 for times in fleet.exchange.pages().values())
    assert twice <= 4 * 2, f"{twice} pages were served twice"
    assert_redis_is_clean(fleet)


def test_a_compactor_that_goes_on_beside_its_successor_loses_and_counts_nothing_twice(
    fleet: Fleet,
) -> None:
    wanted = Wanted("um", MANY[:10], "2024-01-01", "2024-02-01")
    fleet.start_worker("--queues", "plan,rest.futures")
    run = fleet.detach(*wanted.arguments)
    until("all is fetched", lambda: fleet.status(run)["klines"] == wanted.klines)
    stopped = fleet.start_worker("--queues", "compact")
    until("it compacts", lambda: list(Path(fleet.store_url, "lake").rglob("*.parquet")))
    with standing_still(fleet.lanes_of(stopped)["compact"]):
        fleet.start_worker("--queues", "compact")
        await_lapsed_leases(
            "its leases lapse",
            lambda: (
                fleet.status(run)["partitions_compacted"]
                >= len(wanted.symbols) - 2 * COMPACTED_AT_ONCE
            ),
        )
    # What it had published and not yet counted when it was stopped, it counts if the run is not yet
    # over. Its successor finds those rows in the lake.
    in_hand = COMPACTED_AT_ONCE * wanted.klines // len(wanted.symbols)
    assert_done_once(fleet, wanted, len(wanted.symbols), fleet.ended(run), uncounted=in_hand)
    assert_redis_is_clean(fleet)

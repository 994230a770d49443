"""Workers at two public addresses: each has its own budget, work goes where weight is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from tests.expected import Wanted
from tests.harness import Fleet
from tests.processes import until

HERE, THERE = "127.0.0.2", "127.0.0.3"
LIMIT = 400
SLOTS = 10
QUEUES = "rest.futures,plan,compact"


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    """A fleet whose workers go out by two addresses that the exchange counts apart."""
    fleet = fleet_of(
        "--futures-limit",
        str(LIMIT),
        "--latency-ms",
        "30",
        "--symbols",
        "4",
        KLINES_SLOTS=str(SLOTS),
    )
    fleet.start_worker("--queues", QUEUES, KLINES_EGRESS="here", KLINES_SOURCE_ADDRESS=HERE)
    fleet.start_worker(
        "--queues", "rest.futures", KLINES_EGRESS="there", KLINES_SOURCE_ADDRESS=THERE
    )
    return fleet


def wanted(weight: int) -> Wanted:
    """Return a request that costs nearly this much weight."""
    minutes = weight // 2 * 499
    start = datetime(2024, 1, 1)
    return Wanted(
        "um", ("BTCUSDT",), start.isoformat(), (start + timedelta(minutes=minutes)).isoformat()
    )


def spent(fleet: Fleet) -> dict[int, dict[str, int]]:
    """Return the weight of each address, minute by minute."""
    minutes: dict[int, dict[str, int]] = defaultdict(dict)
    for minute in fleet.exchange.books()["minutes"]:
        minutes[minute["minute_ms"]][minute["address"]] = minute["weight"]
    return minutes


def is_full(minute: dict[str, int]) -> bool:
    """Whether both addresses have spent a minute's weight."""
    return min(minute.get(HERE, 0), minute.get(THERE, 0)) > LIMIT * 0.97


def in_all(fleet: Fleet, address: str) -> int:
    """Return the weight that an address has spent, on whichever side of a minute's edge."""
    return sum(of.get(address, 0) for of in spent(fleet).values())


def test_two_addresses_spend_two_budgets_in_one_minute_and_no_more(fleet: Fleet) -> None:
    command = fleet.start("download", *wanted(LIMIT * 8).arguments)
    until(
        "one minute in which both spent theirs",
        lambda: any(map(is_full, spent(fleet).values())),
        within_s=300,
    )
    command.interrupt()
    assert command.result().returncode == 1
    assert fleet.exchange.refused(429) == fleet.exchange.refused(418) == 0
    assert not fleet.exchange.overspent()


def test_a_ban_on_one_address_leaves_the_other_to_do_all_the_work(fleet: Fleet) -> None:
    want = wanted(LIMIT * 3 // 4)
    fleet.exchange.hold_back(2_000)
    command = fleet.start("download", "--json", *want.arguments)
    until("both are at work", lambda: in_all(fleet, HERE) > 10 and in_all(fleet, THERE) > 10)
    fleet.exchange.ask("POST", "ban", {"address": THERE, "pool": "futures", "seconds": 600})
    fleet.exchange.hold_back(100)
    done = command.result()
    assert done.returncode == 0, done.stderr + fleet.log()
    want.assert_held(fleet)
    assert fleet.exchange.refused(418) <= SLOTS, "each slot hears of it once"
    assert not fleet.exchange.overspent()
    told = [
        line
        for line in fleet.log(100_000).splitlines()
        if "has closed rest.futures to there" in line
    ]
    assert len(told) == 1, "said once, not at every window"

"""What the fleet makes of the weight that other programs on its address leave."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.measure import RTT_MS, YEAR, cpu_s, fleet_at, show
from tests.harness import Fleet
from tests.processes import until

#: Neighbours by what they do, each with its profile in the futures pool.
PROFILES: Mapping[str, dict[str, Any] | None] = {
    "nobody": None,
    "even 600": {"even": 600},
    "600 at 0.3": {"weight": 600, "seconds": [0.3]},
    "600 at 30": {"weight": 600, "seconds": [30]},
    "600 at 55": {"weight": 600, "seconds": [55]},
    "300 at 10 and 55": {"weight": 300, "seconds": [10, 55]},
    "1500 at 0.3 every third minute": {"weight": 1500, "seconds": [0.3], "every": 3},
    "1500 at 45 every third minute": {"weight": 1500, "seconds": [45], "every": 3},
    "random, up to 1200": {"random": 1200},
    "even 600 from the third minute": {"even": 600, "first_minute": 2},
    "600 at 55, not from the fourth": {"weight": 600, "seconds": [55], "minutes": 3},
}
#: Calls in flight of all processes on an address, and how many processes share them.
SLOTS = 48
PROCESSES = (1, 4, 16)
#: Minutes that are watched: the first is cut by the beginning, the second is for learning.
MINUTES, MINUTES_OF_PROCESSES = 9, 5
#: More klines than a run spends weight on.
SYMBOLS = ",".join(f"SIM{number:03d}USDT" for number in range(1, 201))
HEAD = (
    f"  {'':<32} {'least':>6} {'mean':>6} {'429s':>5} {'418s':>5} {'before':>6} {'theirs':>6}"
    "   each minute"
)


@dataclass(frozen=True)
class Spent:
    """What became of an address's full minutes after the second."""

    shares: Sequence[float]
    refused_429: int
    refused_418: int
    refused_before: int
    others_refused: int

    def row(self, name: str) -> str:
        """Return a line of the table."""
        each = " ".join(f"{share:.3f}" for share in self.shares)
        return (
            f"  {name:<32} {min(self.shares):6.3f} {statistics.mean(self.shares):6.3f}"
            f" {self.refused_429:5} {self.refused_418:5} {self.refused_before:6}"
            f" {self.others_refused:6}   {each}"
        )


def beside_others() -> None:
    """The share of what each neighbour leaves that is used, our refused calls, and theirs.

    Each neighbour has an address of its own, and one worker there.
    """
    spent = _watched(list(PROFILES.values()), MINUTES)
    rows = [there.row(name) for name, there in zip(PROFILES, spent, strict=True)]
    _table("USD-M by REST beside other programs", rows)


def beside_others_processes() -> None:
    """The same of 1, 4 and 16 processes that share one address with a burst at its start."""
    profile = PROFILES["600 at 0.3"]
    rows = []
    for processes in PROCESSES:
        (spent,) = _watched([profile], MINUTES_OF_PROCESSES, processes)
        rows.append(spent.row(f"processes: {processes}"))
    _table("USD-M by REST beside 600 at 0.3", rows)


def _watched(
    profiles: Sequence[dict[str, Any] | None], minutes: int, processes: int = 1
) -> list[Spent]:
    """Return what was spent on addresses with these neighbours in so many minutes."""
    addresses = [f"127.0.0.{2 + number}" for number in range(len(profiles))]
    with _fleet(addresses, processes) as fleet:
        # The run begins in the minute that is the neighbours' first, and that is cut.
        until("the middle of a minute", lambda: 20 <= time.time() % 60 < 40, within_s=90)
        for address, profile in zip(addresses, profiles, strict=True):
            fleet.exchange.neighbour(address, profile)
        began, began_cpu = time.time(), _cpu_s(fleet)
        run = fleet.detach("--market", "um", "--symbols", SYMBOLS, *YEAR, "--source", "rest")
        end = (began // 60 + minutes) * 60 + 2
        until("the minutes are over", lambda: time.time() >= end, within_s=60 * minutes + 10)
        cores = (_cpu_s(fleet) - began_cpu) / (time.time() - began)
        books = fleet.exchange.books()["minutes"]
        assert fleet.status(run)["state"] == "running"
        fleet.klines("cancel", run)
    show(f"{len(profiles)} address(es), {processes} process(es) on each", cores=cores)
    first_ms = int(began // 60 * 60_000) + 2 * 60_000
    return [_spent(books, address, first_ms, minutes - 2) for address in addresses]


@contextmanager
def _fleet(addresses: Sequence[str], processes: int) -> Iterator[Fleet]:
    """Run a fleet whose weight is spent by so many processes on each address."""
    slots = str(SLOTS // processes)
    with fleet_at("--latency-ms", str(RTT_MS), workers=0) as fleet:
        fleet.start_worker("--queues", "plan,compact")
        for address in addresses:
            at = {"KLINES_EGRESS": f"at-{address}", "KLINES_SOURCE_ADDRESS": address}
            for _ in range(processes):
                fleet.start_worker("--queues", "rest.futures", KLINES_SLOTS=slots, **at)
        yield fleet


def _cpu_s(fleet: Fleet) -> float:
    """Return the processor seconds of everything that the fleet consists of."""
    processes = (*fleet.workers, fleet.exchange, fleet.redis)
    return sum(cpu_s(process.pid) for process in processes)


def _spent(books: list[dict[str, Any]], address: str, first_ms: int, minutes: int) -> Spent:
    ours = {m["minute_ms"]: m for m in books if (m["address"], m["pool"]) == (address, "futures")}
    moments = [first_ms + number * 60_000 for number in range(minutes)]
    full = [ours[moment] for moment in moments if moment in ours]
    before = [m for moment, m in ours.items() if moment < first_ms]
    return Spent(
        # The books have no minute of a ban in which nobody called.
        [_share(ours[moment]) if moment in ours else 0.0 for moment in moments],
        sum(m["refused_429"] for m in full),
        sum(m["refused_418"] for m in full),
        sum(m["refused_429"] + m["refused_418"] for m in before),
        sum(m["foreign_refused"] for m in full),
    )


def _share(minute: dict[str, Any]) -> float:
    """Return our part of what others left of a minute. What is refused is no part of it."""
    others = minute["foreign_weight"]
    return (min(minute["weight"], minute["limit"]) - others) / (minute["limit"] - others)


def _table(name: str, rows: Sequence[str]) -> None:
    print(f"\n{name}\n{HEAD}", *rows, sep="\n", flush=True)

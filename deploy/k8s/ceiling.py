"""How many workers a weight budget can feed: `python -m deploy.k8s.ceiling`.

The autoscaler's ceiling is its answer.

Little's law: calls in flight = calls the budget pays for in a second × seconds a call takes. A
worker brings as many slots to each pool (each lane is a process of its own), so the pool that wants
most of them decides. A lane is one Python process and no more than one core: where its processor
time is the tighter bound, that one counts.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

#: Calls in flight beyond Little's number, so that a slow answer does not leave weight unspent; as
#: the workers have it.
HEADROOM = 1.25
#: Processor time of one page in a lane that fetches, measured (deploy/docs/figures.md).
PAGE_CPU_MS = 4.0
#: Workers beyond those that the budget feeds: while one is lost or drained, another is there at
#: once.
SPARE = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """What shares one count of weight per public address."""

    name: str
    weight_a_minute: int
    #: Of the page that brings the most rows per weight, which is what is asked for.
    page_weight: int
    page_rows: int

    @property
    def calls_a_second(self) -> float:
        """Pages that the whole budget of one address pays for."""
        return self.weight_a_minute / self.page_weight / 60


#: The limits as published; a worker takes the real ones from the exchange.
POOLS = (Pool("spot", 6000, 2, 1000), Pool("futures", 2400, 2, 499))


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the ceiling depends on.

    The defaults are those of the manifests; the round trip is that of the benchmarks.
    """

    egresses: int = 1
    slots: int = 50
    rtt_ms: float = 280.0
    share: float = 1.0
    page_cpu_ms: float = PAGE_CPU_MS

    def calls_in_flight(self, pool: Pool) -> float:
        """Return how many calls in flight spend one address's budget."""
        return pool.calls_a_second * self.share * self.rtt_ms / 1000 * HEADROOM

    def cores(self, pool: Pool) -> float:
        """Return how many cores fetching at one address's whole budget keeps busy."""
        return pool.calls_a_second * self.share * self.page_cpu_ms / 1000

    def fed(self, pool: Pool) -> int:
        """Return how many workers keep one address's budget busy.

        Their slots bound it, or a core for each lane.
        """
        return max(math.ceil(self.calls_in_flight(pool) / self.slots), math.ceil(self.cores(pool)))

    @property
    def ceiling(self) -> int:
        """Workers of one address: those that are fed, and the spare.

        Each address has a Deployment of its own.
        """
        return max(self.fed(pool) for pool in POOLS) + SPARE


def explain(fleet: Fleet) -> str:
    """Return the calculation as text."""
    return "\n".join(
        [
            *(_of_pool(fleet, pool) for pool in POOLS),
            f"workers that one address feeds: {fleet.ceiling - SPARE}, and {SPARE} spare",
            f"maxReplicaCount: {fleet.ceiling} for each address, {fleet.ceiling * fleet.egresses} "
            "workers in all",
            "",
            "More would wait for the same weight. The spare is for the loss of a node.",
            "Archive files cost no weight. A second machine helps them, but compaction bounds",
            "them: scale the compactor for that.",
        ]
    )


def _of_pool(fleet: Fleet, pool: Pool) -> str:
    calls = pool.calls_a_second * fleet.share
    return (
        f"{pool.name}: {pool.weight_a_minute * fleet.share:g} weight a minute / "
        f"{pool.page_weight} a page / 60 = "
        f"{calls:.1f} calls a second ({calls * pool.page_rows * 60 / 1e6:.2f} million klines a "
        "minute)\n"
        f"  × {fleet.rtt_ms:g} ms × {HEADROOM} = {fleet.calls_in_flight(pool):.1f} in flight / "
        f"{fleet.slots} slots; "
        f"× {fleet.page_cpu_ms:g} ms = {fleet.cores(pool):.2f} of a core / 1 core a lane: "
        f"{fleet.fed(pool)} worker(s)"
    )


def main(words: list[str] | None = None) -> None:
    """Print the ceiling and its calculation."""
    given = argparse.ArgumentParser(
        prog="python -m deploy.k8s.ceiling", description="How many workers a budget feeds."
    )
    fleet = Fleet()
    given.add_argument("--egresses", type=_count, default=fleet.egresses, help="public addresses")
    given.add_argument("--slots", type=_count, default=fleet.slots, help="KLINES_SLOTS")
    given.add_argument(
        "--rtt-ms", type=_positive, default=fleet.rtt_ms, help="round trip of one call"
    )
    given.add_argument("--share", type=_positive, default=fleet.share, help="KLINES_WEIGHT_SHARE")
    print(explain(Fleet(**vars(given.parse_args(words)))))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


if __name__ == "__main__":
    main()

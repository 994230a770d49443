"""The text of `klines workers`: who serves which queues and store, and each address's weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from klinefleet.tasks.fleet.lanes import LANES, Lane
from klinefleet.workers.coordination.fleet_store import served_store
from klinefleet.workers.coordination.heartbeat import live_egresses, live_workers
from klinefleet.workers.limits.budget import DOUBTED_BAN, Closing, PoolState
from klinefleet.workers.limits.shared_egress import shared_egress_pairs
from klinefleet.workers.services import Services


def count_workers(services: Services) -> dict[str, int]:
    """Return for every queue the number of processes that serve it."""
    names = [name.partition("@")[0] for name in live_workers(services.redis)]
    return {lane.queue: names.count(lane.queue) for lane in LANES}


def status_lines(services: Services, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each queue, below it one for each address that spends its weight.

    Last comes the store that the lanes serve, if they have named one.
    """
    for lane in LANES:
        yield f"{lane.queue:<14} {counts[lane.queue]}"
        yield from _address_lines(services, lane)
    if served := served_store(services.redis):
        yield f"{'store':<14} {served}"


def _address_lines(services: Services, lane: Lane) -> Iterator[str]:
    if lane.pool is None or not live_egresses(services.redis, lane.queue):
        return
    for name, state in services.pool_states(lane.pool).items():
        yield f"  {name:<12} {_weight(state)}"
    for one, other in shared_egress_pairs(services.redis, lane.pool):
        yield (
            f"  {one} and {other} seem to be one address: "
            "set the same KLINES_EGRESS for their workers"
        )


def _weight(state: PoolState) -> str:
    if state.closed_ms:
        closing = Closing(state.closed_ms, state.asked_ms)
        doubt = f"; {DOUBTED_BAN}" if closing.is_doubted else ""
        return f"closed by the exchange for {state.closed_ms / 1000:,.0f} s{doubt}"
    limit = f"of {state.limit:,}" if state.limit else "of an unknown limit"
    return f"weight {state.used:,} {limit} in this minute"

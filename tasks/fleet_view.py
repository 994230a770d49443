"""What an operator sees of the fleet: which queues are served, and what each public address has left to spend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tasks.lanes import LANES, Lane
from workers.heart import egresses, living
from workers.limits import PoolState
from workers.limits.twins import twins
from workers.toolbox import Toolbox


def served(tools: Toolbox) -> dict[str, int]:
    """Return for every queue how many processes serve it."""
    names = [name.partition("@")[0] for name in living(tools.redis)]
    return {lane.queue: names.count(lane.queue) for lane in LANES}


def lines(tools: Toolbox, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each queue, and below it one for each address that spends its weight."""
    for lane in LANES:
        yield f"{lane.queue:<14} {counts[lane.queue]}"
        yield from _addresses(tools, lane)


def _addresses(tools: Toolbox, lane: Lane) -> Iterator[str]:
    if lane.pool is None or not egresses(tools.redis, lane.queue):
        return
    for name, state in tools.states(lane.pool).items():
        yield f"  {name:<12} {_told(state)}"
    for one, other in twins(tools.redis, lane.pool):
        yield f"  {one} and {other} seem to be one address: give their workers one KLINES_EGRESS"


def _told(state: PoolState) -> str:
    if state.closed_ms:
        return f"closed by the exchange for {state.closed_ms / 1000:,.0f} s"
    of = f"of {state.limit:,}" if state.limit else "of a limit not yet told"
    return f"weight {state.used:,} {of} in this minute"

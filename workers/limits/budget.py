"""The weight budget's contract: what a caller asks, what it is granted, and what is known of a
pool.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from klinefleet.workers.domain.errors import SettingsError

#: Shares are counted in millionths: below one, no limit that an exchange could have leaves room for
#: any call.
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one call now; `learn` must be told how it went."""

    weight: int
    minute: int
    at_ms: int
    left: int
    """Weight still free for us in this minute."""
    minute_left_ms: int
    rtt_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No leave yet: ask again after `ms`, with `place`, the minute in which weight is kept for the
    caller.
    """

    ms: int
    place: int | None
    is_closed: bool = False
    """Whether the exchange closed the pool; otherwise its minute is full, or its clock not yet
    known.
    """


@dataclass(frozen=True, slots=True)
class PoolState:
    """What is known of a pool now, for people and for the autoscaler."""

    limit: int | None
    used: int
    """Weight counted in the running minute, by us and others."""
    reserved: int
    closed_ms: int
    """How long the pool stays closed; 0 while it is open."""
    rtt_ms: int | None
    offset_ms: int | None
    """Exchange clock minus Redis clock."""
    offset_at_ms: int | None = None
    """Redis ms at which the offset was last learned."""


def never_fits_error(weight: int, share: float, most: int, limit: int) -> SettingsError:
    """Return the error of a call that costs more than the `most` we may ever spend of the limit in
    a minute.
    """
    return SettingsError(
        f"KLINES_WEIGHT_SHARE was {share}, which leaves {most:,} of the exchange's {limit:,} "
        "weight a minute; "
        f"a call of weight {weight} never fits and was not sent"
    )


def combined_state(states: Collection[PoolState]) -> PoolState:
    """Return what several addresses have in all: it is closed while all of them are."""
    trips = [state.rtt_ms for state in states if state.rtt_ms is not None]
    return PoolState(
        limit=sum(state.limit or 0 for state in states) or None,
        used=sum(state.used for state in states),
        reserved=sum(state.reserved for state in states),
        closed_ms=min(state.closed_ms for state in states),
        rtt_ms=sum(trips) // len(trips) if trips else None,
        offset_ms=next((state.offset_ms for state in states if state.offset_ms is not None), None),
    )


@dataclass(frozen=True, slots=True)
class Minute:
    """One calendar minute of the exchange at one egress."""

    minute: int
    """Minutes since the epoch."""
    spent: int
    """Weight of our own calls."""
    header: int
    """Weight of all calls from the address, as the exchange last reported it."""


class Budget(Protocol):
    """The weight of one pool and egress."""

    pool: str
    egress: str

    def take(self, weight: int, place: int | None = None) -> Grant | Wait:
        """Return at once: leave to send a call of this weight, or how long to wait before asking
        again.

        A place that is shown in its minute, or to a pool that the exchange has closed, is given
        back. SettingsError where the call costs more than our share of the exchange's limit: no
        minute will ever have room for it.
        """
        ...

    def learn(
        self,
        grant: Grant,
        *,
        used: int | None,
        date_ms: int | None,
        served: bool,
        rtt_ms: int | None = None,
    ) -> None:
        """Note how a granted call went; an unanswered one is learned with all that is unknown as
        None.
        """
        ...

    def close_until(self, *, at_ms: int | None = None, after_ms: int | None = None) -> None:
        """Close the pool for everybody until the exchange's `at_ms`, for `after_ms`, or to the next
        minute.
        """
        ...

    def set_limit(self, limit: int) -> None:
        """Note the weight that the exchange allows in a calendar minute."""
        ...

"""The weight budget's contract: grants, waits, and the state of a pool."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from klinefleet.workers.domain.errors import SettingsError

#: Shares are passed to Lua in millionths: a smaller one leaves no exchange's limit room for a call.
MILLION = 1_000_000
#: What operators are told of a ban that is longer than any the exchange documents (close.lua).
DOUBTED_BAN = (
    "no ban that it documents lasts longer than 3 days, so one trial call goes out each hour; "
    "`klines reopen` sends one now"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to send one call now; `learn` takes it back with the outcome."""

    weight: int
    minute: int
    """The exchange's minute that the call is charged to, minutes since the epoch."""
    at_ms: int
    left: int
    """Weight still free for us in this minute."""
    minute_left_ms: int
    rtt_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No permission yet: take again after `ms`, with `reservation`."""

    ms: int
    reservation: int | None
    """The minute in which weight is reserved for the caller, None without a reservation."""
    is_closed: bool = False
    """True if the exchange closed the pool. False if its minute is full, or its clock unknown."""


@dataclass(frozen=True, slots=True)
class Closing:
    """How long a pool is closed, and how long the exchange asked for (0 if it did not say)."""

    for_ms: int
    asked_ms: int

    @property
    def is_doubted(self) -> bool:
        """True if it asked for longer than any ban that it documents, so we try before."""
        return self.asked_ms > self.for_ms


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool at one moment, for operators and for the adaptive limits."""

    limit: int | None
    used: int
    """Weight counted in the running minute, by us and others."""
    reserved: int
    closed_ms: int
    """How long the pool stays closed; 0 while it is open."""
    asked_ms: int
    """How long the exchange still asks us to stay away: longer than `closed_ms` if no ban that it
    documents lasts so long, 0 where it did not say."""
    rtt_ms: int | None
    offset_ms: int | None
    """Exchange clock minus Redis clock."""
    offset_at_ms: int | None = None
    """Redis ms at which the offset was last learned."""


def never_fits_error(weight: int, share: float, allowed: int, limit: int) -> SettingsError:
    """Return the error of a call that costs more than `allowed`, our part of the limit."""
    return SettingsError(
        f"KLINES_WEIGHT_SHARE was {share}, which leaves {allowed:,} of the exchange's {limit:,} "
        f"weight a minute; a call of weight {weight} never fits and was not sent"
    )


def combined_state(states: Collection[PoolState]) -> PoolState:
    """Return the sum over several addresses; closed only while all of them are."""
    round_trips = [state.rtt_ms for state in states if state.rtt_ms is not None]
    offsets = (state.offset_ms for state in states if state.offset_ms is not None)
    return PoolState(
        limit=sum(state.limit or 0 for state in states) or None,
        used=sum(state.used for state in states),
        reserved=sum(state.reserved for state in states),
        closed_ms=min(state.closed_ms for state in states),
        asked_ms=min(state.asked_ms for state in states),
        rtt_ms=sum(round_trips) // len(round_trips) if round_trips else None,
        offset_ms=next(offsets, None),
    )


@dataclass(frozen=True, slots=True)
class Minute:
    """The weight of one calendar minute of the exchange at one egress."""

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

    def take(self, weight: int, reservation: int | None = None) -> Grant | Wait:
        """Return a grant for a call of this weight, or how long to wait, without blocking.

        `reservation` is that of the last Wait. It is used up when its minute has come or the pool
        is closed. SettingsError if the call costs more than our share of the exchange's limit: no
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
        """Record the outcome of a granted call; what is unknown is None, as after a timeout.

        used, date_ms: used weight and Date of the answer's headers; served: the exchange answered
        with data; rtt_ms: round trip.
        """
        ...

    def close_until(self, *, at_ms: int | None = None, after_ms: int | None = None) -> Closing:
        """Close the pool for all workers of this egress, and return for how long.

        Until `at_ms` of the exchange's clock, or for `after_ms`; without both, or where they are
        over, until the exchange's next minute. Refused again and again, it is closed for longer
        each time, up to 64 s; for a ban of more than 3 days, an hour at a time.
        """
        ...

    def set_limit(self, limit: int) -> None:
        """Set the weight that the exchange allows in a calendar minute."""
        ...

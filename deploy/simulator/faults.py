"""Which kline calls go wrong, and how: rates by kind, drawn from a seeded generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """Every way a kline call can be made to fail."""

    BAD_REQUEST = "400"
    FIREWALL = "403"
    BACKEND_TIMEOUT = "408"
    BANNED = "418"
    TOO_MANY = "429"
    RESTRICTED = "451"
    INTERNAL = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    RESET = "reset"
    TRUNCATED = "truncated"
    HANG = "hang"
    NOT_JSON = "not_json"
    HTML_200 = "html_200"
    HALF = "half"
    SHORT = "short"
    """The page ends early; it is good JSON, as a proxy makes it that keeps a length."""
    EMPTY = "empty"
    HOLE = "hole"
    """Rows are missing from its middle."""
    FAULTY = "faulty"
    """A row in its middle has a low price that is none."""


#: Faults of the front door: the call never reaches the counter.
UNCHARGED = frozenset({Fault.UNAVAILABLE, Fault.RESET})
#: Faults that leave the client without an answer.
UNANSWERED = frozenset({Fault.RESET, Fault.HANG})
#: Faults that make a page untrue, and leave it well formed.
UNTRUE = frozenset({Fault.SHORT, Fault.EMPTY, Fault.HOLE, Fault.FAULTY})
#: Faults that spoil a good page on its way out.
NEEDS_PAGE = frozenset({Fault.HALF, Fault.TRUNCATED}) | UNTRUE


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each fault strikes, and what the faults say."""

    rates: Mapping[Fault, float] = field(default_factory=dict)
    seed: int = 0
    retry_after_s: int = 1
    ban_s: float = 3.0
    hang_s: float = 30.0
    most: int | None = None
    """How many calls fail at most; None: no bound."""

    def __post_init__(self) -> None:
        if any(rate < 0 for rate in self.rates.values()) or sum(self.rates.values()) > 1:
            raise ValueError(
                f"rates were {dict(self.rates)}; none may be negative and their sum at most 1"
            )
        if min(self.retry_after_s, self.ban_s, self.hang_s, self.most or 0) < 0:
            raise ValueError("retry_after_s, ban_s, hang_s and most must not be negative")


class Faults:
    """Draws a fault, or none, for every kline call in the order they arrive."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.struck: Counter[Fault] = Counter()
        self.follow(plan or Plan())

    def follow(self, plan: Plan) -> None:
        """Draw by this plan from now on, from the beginning of its seed."""
        self.plan = plan
        self._random = Random(plan.seed)
        self._left = plan.most

    def draw(self) -> Fault | None:
        """Return the fault of the next call; the caller counts it once it strikes."""
        if not self.plan.rates or self._left == 0:
            return None
        at = self._random.random()
        for fault, rate in self.plan.rates.items():
            at -= rate
            if at < 0:
                self._left = None if self._left is None else self._left - 1
                return fault
        return None

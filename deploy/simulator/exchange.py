"""The state of one stand-in exchange: clock, rows, books, faults, archive and log of calls."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from random import Random
from typing import Any

from deploy.simulator.archive.state import Archive
from deploy.simulator.books import Books
from deploy.simulator.faults import Fault, Faults
from deploy.simulator.funding_books import FundingBooks
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Bands, Market, Pool
from deploy.simulator.moments import SECOND_MS, Clock
from deploy.simulator.source import Source

KEPT_CALLS = 200_000
DEFAULT_LIMITS: Mapping[Pool, int] = {Pool.SPOT: 6_000, Pool.FUTURES: 2_400}
DEFAULT_BAN_S = 120


@dataclass(slots=True)
class Call:
    """One call for rows, in the order of arrival.

    Its status is 0 until it is answered, and stays 0 if it never is.
    """

    market: Market
    kind: Kind
    symbol: str | None
    interval: str | None
    start: str | None
    end: str | None
    limit: str | None
    at_ms: int
    status: int = 0
    rows: int = 0
    fault: Fault | None = None


@dataclass(slots=True)
class Latency:
    """How long every market answer is held back."""

    ms: float = 0.0
    jitter_ms: float = 0.0
    _random: Random = field(default_factory=lambda: Random(0))

    async def wait(self) -> None:
        """Hold an answer back."""
        delay_ms = self.ms + self.jitter_ms * self._random.random()
        if delay_ms > 0:
            await asyncio.sleep(delay_ms / SECOND_MS)


@dataclass(slots=True)
class DateShift:
    """How far the Date header lies behind the exchange's clock, and for how many more answers."""

    behind_ms: int = 0
    answers: int | None = None
    """None: all of them."""

    def due_ms(self) -> int:
        """Return how far the next answer's Date lies behind."""
        if self.answers is None:
            return self.behind_ms
        self.answers -= 1
        return self.behind_ms if self.answers >= 0 else 0


class Exchange:
    """Everything the route handlers share."""

    def __init__(
        self,
        *,
        clock: Clock,
        source: Source,
        limits: Mapping[Pool, int] = DEFAULT_LIMITS,
        bands: Bands = Bands.MEASURED,
        ban_s: float = DEFAULT_BAN_S,
        latency: Latency | None = None,
        archive_latency_ms: float = 0.0,
    ) -> None:
        self.clock = clock
        self.source = source
        self.bands = bands
        self.books = Books(limits, round(ban_s * SECOND_MS))
        self.archive = Archive(clock, source.shelf, archive_latency_ms)
        self.funding = FundingBooks()
        self.faults = Faults()
        self.latency = latency or Latency()
        self.date_shift = DateShift()
        self.info_status: int | None = None
        """What exchangeInfo is answered with in place of the symbols; None: with the symbols."""
        self.info_refusals: int | None = None
        """How many answers still have that status; None: all."""
        self.info_untrue: dict[str, dict[str, Any] | None] = {}
        """What exchangeInfo says of a symbol in place of the truth; None: nothing."""
        self._calls: deque[Call] = deque(maxlen=KEPT_CALLS)
        self._counted: Counter[str] = Counter()
        self._date = (-1, "")

    def date(self, now_ms: int) -> str:
        """Return the Date header of this second."""
        second = now_ms // SECOND_MS
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def note_arrival(self) -> None:
        """Count a call to any market route."""
        self._counted["calls"] += 1

    def note_call(self, call: Call) -> None:
        """Log a call that has arrived."""
        self._calls.append(call)

    def note_served(self, call: Call, rows: int) -> None:
        """Log the rows a call is answered with."""
        call.rows = rows
        self._counted["klines"] += rows

    def note_fault(self, call: Call, fault: Fault) -> None:
        """Log the fault a call is answered with."""
        call.fault = fault
        self.faults.struck[fault] += 1

    def report(self) -> dict[str, Any]:
        """Return the books: minutes, funding calls, calls, rows served, and faults."""
        return {
            "minutes": self.books.minutes(),
            "funding": self.funding.stretches(),
            "calls": self._counted["calls"],
            "klines": self._counted["klines"],
            "faults": dict(self.faults.struck),
        }

    def forget_books(self) -> None:
        """Clear the books: weight, bans and counts."""
        self.books.forget()
        self.funding.forget()
        self.faults.struck.clear()
        self._counted.clear()

    def calls(self) -> list[dict[str, Any]]:
        """Return the newest calls for rows, oldest first."""
        return [asdict(call) for call in self._calls]

    def forget_calls(self) -> None:
        """Empty the log of calls for rows."""
        self._calls.clear()

"""The exchange's count of weight by address, pool and calendar minute; refusals and bans."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from deploy.simulator.markets import Pool
from deploy.simulator.moments import DAY_MS, MINUTE_MS, SECOND_MS
from deploy.simulator.neighbours import Neighbour, Program

#: Minutes kept: a day and a half of two pools for two addresses.
KEPT_MINUTES = 10_000
LONGEST_BAN_MS = 3 * DAY_MS

Account = tuple[str, Pool]


@dataclass(slots=True)
class Minute:
    """What one address spent in one pool in one calendar minute.

    `weight` counts everything, the foreign part too.
    """

    address: str
    pool: Pool
    minute_ms: int
    limit: int
    weight: int = 0
    calls: int = 0
    refused_429: int = 0
    refused_418: int = 0
    foreign_weight: int = 0
    foreign_refused: int = 0


class Verdict(NamedTuple):
    """200, 429 or 418; the weight used in this minute; and when a refused address may come back."""

    status: HTTPStatus
    used: int
    until_ms: int = 0


class Books:
    """Counts every call at its arrival and says whether it may pass."""

    def __init__(
        self, limits: Mapping[Pool, int], ban_ms: int, refusals_before_ban: int = 10
    ) -> None:
        self._limits = limits
        self._ban_ms = ban_ms
        self._refusals_before_ban = refusals_before_ban
        self._minutes: OrderedDict[tuple[str, Pool, int], Minute] = OrderedDict()
        self._banned_until_ms: dict[Account, int] = {}
        self._offences: defaultdict[Account, int] = defaultdict(int)
        self._foreign: dict[Account, Program] = {}

    def limit(self, pool: Pool) -> int:
        """Return the weight a minute of this pool holds."""
        return self._limits[pool]

    def banned_until(self, address: str, pool: Pool, now_ms: int) -> int | None:
        """Return the end of the ban in force, if there is one."""
        until_ms = self._banned_until_ms.get((address, pool), 0)
        return until_ms if until_ms > now_ms else None

    def used(self, address: str, pool: Pool, now_ms: int) -> int:
        """Return the weight counted so far in this minute."""
        self._spend_of_others(address, pool, now_ms)
        return self._minute(address, pool, now_ms).weight

    def count(self, address: str, pool: Pool, weight: int, now_ms: int) -> Verdict:
        """Count a call that has arrived and return whether it may pass."""
        self._spend_of_others(address, pool, now_ms)
        minute = self._minute(address, pool, now_ms)
        minute.calls += 1
        until_ms = self.banned_until(address, pool, now_ms)
        if until_ms is not None:
            minute.refused_418 += 1
            return Verdict(HTTPStatus.IM_A_TEAPOT, minute.weight, until_ms)
        minute.weight += weight
        if minute.weight <= minute.limit:
            return Verdict(HTTPStatus.OK, minute.weight)
        if minute.refused_429 < self._refusals_before_ban:
            minute.refused_429 += 1
            return Verdict(
                HTTPStatus.TOO_MANY_REQUESTS, minute.weight, minute.minute_ms + MINUTE_MS
            )
        minute.refused_418 += 1
        return Verdict(HTTPStatus.IM_A_TEAPOT, minute.weight, self._punish(address, pool, now_ms))

    def ban(self, address: str, pool: Pool, until_ms: int) -> None:
        """Shut an address out of a pool until a moment, whatever it did."""
        self._banned_until_ms[address, pool] = until_ms

    def set_foreign(self, address: str, pool: Pool, neighbour: Neighbour, now_ms: int) -> None:
        """Let another program make calls from the address from now on, in place of the last."""
        self._spend_of_others(address, pool, now_ms)
        self._foreign[address, pool] = Program(neighbour, now_ms)

    def spend_foreign(self, now_ms: int) -> None:
        """Count the calls that other programs have made since they were last counted."""
        for address, pool in self._foreign:
            self._spend_of_others(address, pool, now_ms)

    def minutes(self) -> list[dict[str, Any]]:
        """Return every minute still held, oldest first."""
        return [asdict(minute) for minute in self._minutes.values()]

    def forget(self) -> None:
        """Drop the finished account of weight, refusals, offences and bans."""
        self._minutes.clear()
        self._offences.clear()
        self._banned_until_ms.clear()

    def _spend_of_others(self, address: str, pool: Pool, now_ms: int) -> None:
        """Count each call of the other program at its own moment."""
        if program := self._foreign.get((address, pool)):
            for at_ms, weight in program.due(now_ms):
                self._count_foreign(self._minute(address, pool, at_ms), weight, at_ms)

    def _count_foreign(self, minute: Minute, weight: int, at_ms: int) -> None:
        banned = self.banned_until(minute.address, minute.pool, at_ms) is not None
        if banned or minute.weight + weight > minute.limit:
            minute.foreign_refused += 1
            return
        minute.weight += weight
        minute.foreign_weight += weight

    def _minute(self, address: str, pool: Pool, now_ms: int) -> Minute:
        minute_ms = now_ms - now_ms % MINUTE_MS
        key = (address, pool, minute_ms)
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = Minute(address, pool, minute_ms, self._limits[pool])
            if len(self._minutes) > KEPT_MINUTES:
                self._minutes.popitem(last=False)
        return minute

    def _punish(self, address: str, pool: Pool, now_ms: int) -> int:
        """Return the end of a new ban, twice as long as the one before."""
        length_ms = min(self._ban_ms << min(self._offences[address, pool], 20), LONGEST_BAN_MS)
        self._offences[address, pool] += 1
        self._banned_until_ms[address, pool] = now_ms + length_ms
        return now_ms + length_ms


def seconds_until(until_ms: int, now_ms: int) -> int:
    """Return the value of a Retry-After header: whole seconds, rounded up, at least one."""
    return max(1, -((now_ms - until_ms) // SECOND_MS))

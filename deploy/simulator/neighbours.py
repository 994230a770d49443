"""Other programs on an address: what calls they make at which moments of each minute."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from random import Random
from typing import Any

from deploy.simulator.moments import MINUTE_MS, SECOND_MS

#: A call: ms since its minute began, and its weight.
Call = tuple[float, int]
#: Returns the calls of a minute in any order; minutes are counted from 0.
Neighbour = Callable[[int], Iterator[Call]]

#: What one call of a burst costs at most, and one of those that are spread evenly.
CALL_WEIGHT = 10
EVEN_CALL_WEIGHT = 2

#: What a profile may say, by the name that tells what it is.
PROFILES = {"even": (), "weight": ("seconds", "every"), "random": ("seed",)}
WHEN = ("first_minute", "minutes")


def nobody(minute: int) -> Iterator[Call]:
    """Yield nothing."""
    yield from ()


def even(weight: int) -> Neighbour:
    """Return one that spends so much of each minute evenly."""

    def calls(minute: int) -> Iterator[Call]:
        for spent in range(0, weight, EVEN_CALL_WEIGHT):
            yield spent * MINUTE_MS / weight, min(EVEN_CALL_WEIGHT, weight - spent)

    return calls


def burst(weight: int, *seconds: float, every: int = 1) -> Neighbour:
    """Return one that spends so much at once at each of these seconds; every so-many-th minute."""

    def calls(minute: int) -> Iterator[Call]:
        if minute % every == 0:
            for second in seconds:
                yield from _at_once(weight, second)

    return calls


def at_random(most: int, seed: int = 1) -> Neighbour:
    """Return one whose calls come in bursts of any size at any time: up to so much a minute."""

    def calls(minute: int) -> Iterator[Call]:
        random = Random(f"{seed} {minute}")
        left = random.randint(0, most)
        while left > 0:
            size = min(left, random.choice([10, 20, 100, 300]))
            yield from _at_once(size, random.uniform(0, 60))
            left -= size

    return calls


def during(neighbour: Neighbour, first: int, end: float = math.inf) -> Neighbour:
    """Return one that is there from minute `first` until minute `end`."""

    def calls(minute: int) -> Iterator[Call]:
        if first <= minute < end:
            yield from neighbour(minute)

    return calls


def together(*neighbours: Neighbour) -> Neighbour:
    """Return several at once."""

    def calls(minute: int) -> Iterator[Call]:
        for neighbour in neighbours:
            yield from neighbour(minute)

    return calls


def described(profile: Any) -> Neighbour:
    """Return whom a profile describes, or a list of them; none describes nobody.

    Raises ValueError or TypeError where it makes no sense.
    """
    if not profile:
        return nobody
    if isinstance(profile, list):
        return together(*map(described, profile))
    if not isinstance(profile, dict):
        raise TypeError(f"a profile was {profile!r}; it must be an object, or a list of objects")
    named = [name for name in PROFILES if name in profile]
    if len(named) != 1:
        raise ValueError(f"a profile has one of {', '.join(PROFILES)}; its names were {[*profile]}")
    if unknown := profile.keys() - {*named, *PROFILES[named[0]], *WHEN}:
        raise ValueError(f"a profile with {named[0]!r} has no {', '.join(sorted(unknown))}")
    first = _whole(profile, "first_minute", 0, default=0)
    minutes = _whole(profile, "minutes", 1) if "minutes" in profile else math.inf
    return during(_lasting(named[0], profile), first, first + minutes)


class Program:
    """A neighbour on the exchange's clock: which of its calls have come since one last looked.

    Its minute 0 is the calendar minute in which it begins.
    """

    def __init__(self, neighbour: Neighbour, began_ms: int) -> None:
        self._neighbour = neighbour
        self._began_ms = began_ms
        self._minute_ms = began_ms - began_ms % MINUTE_MS
        self._minute = 0
        self._ahead: list[Call] = []

    def due(self, now_ms: int) -> Iterator[tuple[int, int]]:
        """Yield moment and weight of each call from before now that was not yielded yet."""
        while self._minute_ms < now_ms:
            self._plan_minute()
        while self._ahead and self._ahead[0][0] < now_ms:
            at_ms, weight = heappop(self._ahead)
            yield int(at_ms), weight

    def _plan_minute(self) -> None:
        for since_ms, weight in self._neighbour(self._minute):
            if self._minute_ms + since_ms >= self._began_ms:
                heappush(self._ahead, (self._minute_ms + since_ms, weight))
        self._minute += 1
        self._minute_ms += MINUTE_MS


def _at_once(weight: int, second: float) -> Iterator[Call]:
    """Yield calls that are a millisecond apart."""
    for number, spent in enumerate(range(0, weight, CALL_WEIGHT)):
        yield second * SECOND_MS + number, min(CALL_WEIGHT, weight - spent)


def _lasting(name: str, profile: dict[str, Any]) -> Neighbour:
    weight = _whole(profile, name, 0)
    if name == "even":
        return even(weight)
    if name == "random":
        return at_random(weight, _whole(profile, "seed", 0, default=1))
    return burst(weight, *_seconds(profile), every=_whole(profile, "every", 1, default=1))


def _seconds(profile: dict[str, Any]) -> list[float]:
    seconds = profile.get("seconds")
    if not isinstance(seconds, list) or not seconds:
        raise ValueError(f"seconds were {seconds!r}; they must be a list, as [0.3, 30]")
    if any(not isinstance(second, int | float) or not 0 <= second < 60 for second in seconds):
        raise ValueError(f"seconds were {seconds}; each must be from 0 to below 60")
    return seconds


def _whole(profile: dict[str, Any], name: str, least: int, default: int | None = None) -> int:
    value = profile.get(name, default)
    if type(value) is not int or value < least:
        raise ValueError(f"{name} was {value!r}; it must be a whole number, at least {least}")
    return value

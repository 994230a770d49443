"""Asks again what is answered late, and takes the answer that comes first.

The last calls of a run decide when it ends. One whose answer is lost would hold it up until its
time is over, while the same call, made again, is mostly answered at once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from redis import RedisError

from klinefleet.workers.binance.calls.clock import CallClock
from klinefleet.workers.domain.errors import FleetError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Further tries of one call.
MOST_TRIES = 3
#: A call is late after so many usual round trips, and at least so many seconds.
LATE_TIMES, LATE_AFTER_S = 4.0, 1.0
#: Seconds after which a call is late while no round trip is known.
LATE_AT_FIRST_S = 2.0
#: A watcher that wakes so much too late stood still, with the calls that it watches: their answers
#: may be there already.
OVERSLEPT_S = 0.5
#: Seconds for which the watcher rests at least. Calls that are over come by the hundred a second.
REST_S = 0.1
#: Seconds between a further try that failed and the next one.
PAUSE_S = 0.25


class SecondTries:
    """Second tries of a process's calls; a thread of its own watches for late ones."""

    def __init__(
        self, *, late_at_first_s: float = LATE_AT_FIRST_S, late_after_s: float = LATE_AFTER_S
    ) -> None:
        self._late_at_first_s, self._late_after_s = late_at_first_s, late_after_s
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, _Race[object]]] = []
        self._numbers = itertools.count()
        self._watcher: threading.Thread | None = None
        self._usual_s: float | None = None

    def first_answer(
        self,
        ask: Callable[[CallClock], T],
        ask_again: Callable[[CallClock], T | None],
        new_clock: Callable[[], CallClock],
    ) -> T:
        """Return the answer to the first of the tries that gets one, and end the others.

        `ask_again` returns None where no other try can be made now; it is asked again later. The
        first try's error is raised if no try succeeds.
        """
        race = _Race(ask_again, new_clock)
        self._watch(race, self._late_after_s)
        clock = race.new_clock()
        try:
            answer = ask(clock)
        except Exception:
            if (other := race.await_others()) is not None:
                return other
            raise
        race.end()
        self._usual_s = (self._usual_s or clock.took_s) * 0.9 + clock.took_s * 0.1
        return answer

    @property
    def _late_s(self) -> float:
        usual_s = self._usual_s
        if usual_s is None:
            return self._late_at_first_s
        return max(self._late_after_s, LATE_TIMES * usual_s)

    def _watch(self, race: _Race[T], in_s: float) -> None:
        """Look at a race after some seconds, and not before."""
        race.look_at_s = time.monotonic() + in_s
        due = (race.look_at_s, next(self._numbers), race)
        with self._changed:
            heapq.heappush(self._due, due)  # type: ignore[misc]
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._run, name="late", daemon=True)
                self._watcher.start()
            elif self._due[0] is due:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            race, overslept_s = self._next_race()
            if overslept_s > OVERSLEPT_S:
                self._watch(race, self._late_after_s)
            elif (missing_s := race.began_s + self._late_s - time.monotonic()) > 0:
                self._watch(race, missing_s)
            elif race.may_try_again():
                self._watch(race, self._late_s)
                threading.Thread(
                    target=self._try_again, args=[race], name="second-try", daemon=True
                ).start()

    def _try_again(self, race: _Race[object]) -> None:
        was_made = race.try_again()
        self._watch(race, PAUSE_S if was_made else self._late_after_s)

    def _next_race(self) -> tuple[_Race[object], float]:
        """Return the next race to look at, and how long ago that was to be."""
        with self._changed:
            while True:
                now_s = time.monotonic()
                if not self._due or self._due[0][0] > now_s:
                    next_s = self._due[0][0] - now_s if self._due else None
                    self._changed.wait(next_s and max(next_s, REST_S))
                    continue
                at_s, _, race = heapq.heappop(self._due)
                if at_s == race.look_at_s and not race.is_over:
                    return race, now_s - at_s


class _Race(Generic[T]):
    """The tries of one call."""

    def __init__(
        self, ask_again: Callable[[CallClock], T | None], new_clock: Callable[[], CallClock]
    ) -> None:
        self.began_s = self.look_at_s = time.monotonic()
        self._ask_again, self._make_clock = ask_again, new_clock
        self._changed = threading.Condition()
        self._clocks = list[CallClock]()
        self._answer: T | None = None
        self._tries = 0
        self._running = 0
        self.is_over = False

    def new_clock(self) -> CallClock:
        clock = self._make_clock()
        with self._changed:
            if self.is_over:
                clock.cut()
            self._clocks.append(clock)
        return clock

    def may_try_again(self) -> bool:
        """Return whether another try is due, and count it."""
        with self._changed:
            if self.is_over or self._tries >= MOST_TRIES:
                return False
            self._tries += 1
            self._running += 1
            return True

    def try_again(self) -> bool:
        """Make another try, whose answer ends the others; return False if none could be made."""
        was_made = True
        try:
            answer = self._ask_again(self.new_clock())
            if was_made := answer is not None:
                self.end(answer)
        except (FleetError, RedisError) as error:
            logger.debug("a second try failed: %s", error)
        finally:
            with self._changed:
                self._tries -= not was_made
                self._running -= 1
                self._changed.notify_all()
        return was_made

    def end(self, answer: T | None = None) -> None:
        """End the other tries, unless the race is over; keep the answer for who made the first."""
        with self._changed:
            if self.is_over:
                return
            self.is_over, self._answer = True, answer
            self._changed.notify_all()
        for clock in self._clocks:
            clock.cut()

    def await_others(self) -> T | None:
        """Return the answer of another try once there is one; None where all have failed."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_over or not self._running)
            self.is_over = True
            return self._answer

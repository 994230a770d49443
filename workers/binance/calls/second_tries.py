"""Asks again what is answered late, and takes the answer that comes first.

The last calls of a run decide when it ends. One whose answer is lost would hold it up until its
time is over, while the same call, made again, is mostly answered at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

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
#: Seconds between two looks at the calls that are under way.
LOOK_S = 0.1
#: A watcher that looks so much too late stood still, with the calls that it watches: their answers
#: may be there already.
OVERSLEPT_S = 0.5
#: Seconds between a further try that failed and the next one.
PAUSE_S = 0.25


class SecondTries:
    """Second tries of a process's calls; a thread of its own watches for late ones."""

    def __init__(
        self, *, late_at_first_s: float = LATE_AT_FIRST_S, late_after_s: float = LATE_AFTER_S
    ) -> None:
        self._late_at_first_s, self._late_after_s = late_at_first_s, late_after_s
        self._changed = threading.Condition()
        self._under_way = set[_Race[Any]]()
        self._watcher: threading.Thread | None = None
        self._is_watcher_idle = False
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
        race = _Race(self._changed, ask_again, new_clock)
        clock = race.new_clock()
        self._watch(race)
        try:
            answer = ask(clock)
        except Exception:  # whatever it was, another try may have the answer; else it is raised
            if (other := race.await_others()) is not None:
                return other
            raise
        finally:
            self._under_way.discard(race)
        race.end()
        self._usual_s = (self._usual_s or clock.took_s) * 0.9 + clock.took_s * 0.1
        return answer

    @property
    def _late_s(self) -> float:
        usual_s = self._usual_s
        if usual_s is None:
            return self._late_at_first_s
        return max(self._late_after_s, LATE_TIMES * usual_s)

    def _watch(self, race: _Race[T]) -> None:
        # Calls come by the hundred a second: no lock is taken for one, unless nobody looks.
        self._under_way.add(race)
        if self._watcher is None or self._is_watcher_idle:
            with self._changed:
                if self._watcher is None:
                    self._watcher = threading.Thread(target=self._run, name="late", daemon=True)
                    self._watcher.start()
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            self._await_calls()
            began_s = time.monotonic()
            time.sleep(LOOK_S)
            now_s = time.monotonic()
            stood_still = now_s - began_s > LOOK_S + OVERSLEPT_S
            for race in list(self._under_way):
                if stood_still:
                    race.next_try_s = now_s + self._late_after_s
                elif now_s >= max(race.next_try_s, race.began_s + self._late_s):
                    self._try_again(race, now_s)

    def _await_calls(self) -> None:
        with self._changed:
            self._is_watcher_idle = True
            self._changed.wait_for(lambda: bool(self._under_way))
            self._is_watcher_idle = False

    def _try_again(self, race: _Race[Any], now_s: float) -> None:
        if not race.may_try_again():
            return
        race.next_try_s = now_s + self._late_s

        def run() -> None:
            was_made = race.try_again()
            pause_s = PAUSE_S if was_made else self._late_after_s
            race.next_try_s = time.monotonic() + pause_s

        threading.Thread(target=run, name="second-try", daemon=True).start()


class _Race(Generic[T]):
    """The tries of one call. `changed` is shared by all, as few of them ever have a second try."""

    def __init__(
        self,
        changed: threading.Condition,
        ask_again: Callable[[CallClock], T | None],
        new_clock: Callable[[], CallClock],
    ) -> None:
        self.began_s = self.next_try_s = time.monotonic()
        self._changed = changed
        self._ask_again, self._make_clock = ask_again, new_clock
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

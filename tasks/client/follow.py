"""Follow a run until it ends, showing its progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from redis import RedisError

from klinefleet.tasks.client.progress_bar import ProgressDisplay, progress_display
from klinefleet.tasks.runs.progress import Progress
from klinefleet.tasks.runs.report_file import with_records
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.redis_faults import in_words
from klinefleet.workers.domain.errors import RunLost
from klinefleet.workers.limits.budget import combined_state
from klinefleet.workers.services import Services

logger = logging.getLogger(__name__)

#: Seconds between two looks at a run's progress.
POLL_S = 0.1
#: Seconds between two attempts while Redis does not answer.
REDIS_RETRY_S = 1.0
#: How long Redis may be away before the command stops following; the run itself may go on.
REDIS_AWAY_S = 120.0


def follow(services: Services, run: str, on_poll: Callable[[], None] = lambda: None) -> Progress:
    """Show a run's progress until it ends, and return its last progress.

    `on_poll` is called before each look. RunLost if Redis stays away or has forgotten the run; what
    was fetched is in the store.
    """
    runs, last_answer = Runs(services.redis), time.monotonic()
    with progress_display("planning") as display:
        while True:
            on_poll()
            try:
                progress = runs.progress(run)
                if progress:
                    _show(services, display, progress)
            except RedisError as error:
                if time.monotonic() - last_answer > REDIS_AWAY_S:
                    logger.debug("Redis is away: %r", error)
                    raise RunLost(
                        f"Redis has been away for {REDIS_AWAY_S:.0f} s; run {run} may still go on"
                    ) from error
                display.say(f"waiting for Redis, which {in_words(error)}")
                time.sleep(REDIS_RETRY_S)
                continue
            if progress is None:
                raise RunLost(
                    f"Redis has no run {run} any more; fetched data is kept, run the command again"
                )
            last_answer = time.monotonic()
            if progress.state.has_ended:
                return with_records(services.store, progress)
            time.sleep(POLL_S)


def _show(services: Services, display: ProgressDisplay, progress: Progress) -> None:
    done = progress.counts["calls_done"]
    text = partial(status_line, services, progress)
    display.show(done, done + progress.calls_left, f"{progress.run}: ", text)


def status_line(services: Services, progress: Progress) -> str:
    """Return a run's progress in one line."""
    states = services.pool_states(progress.request.pool)
    counts, pool = progress.counts, combined_state(list(states.values()))
    closed = {name: state.closed_ms // 1000 for name, state in states.items() if state.closed_ms}
    waited_s = counts["waited_ms"] / 1000
    has_eta = progress.eta_s is not None and not progress.state.has_ended
    parts = [
        f"windows {counts['windows_done']:,}/{counts['windows']:,}",
        f"{counts['files']:,} files" if counts["files"] else "",
        f"{counts['klines']:,} rows",
        f"{pool.used / pool.limit:.0%} of this minute's weight used" if pool.limit else "",
        *(f"{name} blocked by the exchange for {seconds} s" for name, seconds in closed.items()),
        f"waited {waited_s:,.0f} s for weight" if waited_s > 1 else "",
        f"{counts['windows_failed']:,} failed" if counts["windows_failed"] else "",
        f"{_clock(progress.eta_s or 0)} left" if has_eta else "",
    ]
    return ", ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

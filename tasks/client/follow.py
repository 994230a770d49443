"""What a user sees of a run while it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from redis import RedisError

from klinefleet.tasks.client.progress_bar import progress_display
from klinefleet.tasks.runs.progress import Progress
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import RunLost
from klinefleet.workers.limits.budget import combined_state
from klinefleet.workers.services import Services

LOOK_S = 0.1
#: How long Redis may be away before the command gives up following (the run itself may go on).
REDIS_AWAY_S = 120.0


def follow(services: Services, run: str, tend: Callable[[], None] = lambda: None) -> Progress:
    """Show a run's progress until it has ended, and return how; `tend` is called at every look.

    RunLost where Redis forgot it or stays away; what was fetched is in the store.
    """
    runs, shows = Runs(services.redis), progress_display("planning")
    seen = time.monotonic()
    with shows:
        while True:
            tend()
            try:
                progress = runs.progress(run)
            except RedisError as error:
                if time.monotonic() - seen > REDIS_AWAY_S:
                    raise RunLost(
                        f"Redis has been away for {REDIS_AWAY_S:.0f} s ({error}); run {run} may "
                        "go on"
                    ) from error
                shows.say("Redis does not answer; waiting for it")
                time.sleep(1.0)
                continue
            if progress is None:
                raise RunLost(
                    f"Redis knows nothing of run {run} any more; what was fetched is held, ask "
                    "again"
                )
            seen = time.monotonic()
            done = progress.counts["calls_done"]
            shows.show(
                done,
                done + progress.calls_left,
                f"{run}: ",
                partial(status_line, services, progress),
            )
            if progress.state.has_ended:
                return progress
            time.sleep(LOOK_S)


def status_line(services: Services, progress: Progress) -> str:
    """Return where a run stands, in one line."""
    states = services.pool_states(progress.request.pool)
    counts, pool = progress.counts, combined_state(list(states.values()))
    closed = {name: state.closed_ms // 1000 for name, state in states.items() if state.closed_ms}
    parts = [
        f"windows {counts['windows_done']:,}/{counts['windows']:,}",
        f"{counts['files']:,} files" if counts["files"] else "",
        f"{counts['klines']:,} rows",
        f"budget {pool.used / pool.limit:.0%} of this minute" if pool.limit else "",
        *(f"the exchange closed {name} for {seconds} s" for name, seconds in closed.items()),
        f"waited {counts['waited_ms'] / 1000:,.0f} s for weight"
        if counts["waited_ms"] > 1000
        else "",
        f"{counts['windows_failed']:,} failed" if counts["windows_failed"] else "",
        f"{_clock(progress.eta_s)} to go"
        if progress.eta_s is not None and not progress.state.has_ended
        else "",
    ]
    return ", ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

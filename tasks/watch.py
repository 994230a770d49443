"""What a user sees of a run while it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, Self

from redis import RedisError

from tasks.runs.progress import Progress
from tasks.runs.store import Runs
from workers.errors import FleetError
from workers.limits import together
from workers.toolbox import Toolbox

LOOK_S = 0.1
#: How long Redis may be away before the command gives up following (the run itself may go on).
PATIENCE_S = 120.0
#: Off a terminal, a line is printed this often.
LINE_S = 5.0


class RunLost(FleetError):
    """Nothing is known of the run any more."""


def follow(tools: Toolbox, run: str, tend: Callable[[], None] = lambda: None) -> Progress:
    """Show a run's progress until it has ended, and return how; `tend` is called at every look.

    RunLost where Redis forgot it or stays away; what was fetched is in the store.
    """
    runs, shows = Runs(tools.redis), shown("planning")
    seen = time.monotonic()
    with shows:
        while True:
            tend()
            try:
                progress = runs.progress(run)
            except RedisError as error:
                if time.monotonic() - seen > PATIENCE_S:
                    raise RunLost(
                        f"Redis has been away for {PATIENCE_S:.0f} s ({error}); run {run} may go on"
                    ) from error
                shows.say("Redis does not answer; waiting for it")
                time.sleep(1.0)
                continue
            if progress is None:
                raise RunLost(f"Redis knows nothing of run {run} any more; what was fetched is held, ask again")
            seen = time.monotonic()
            done = progress.counts["calls_done"]
            shows.show(done, done + progress.calls_left, f"{run}: ", partial(status_line, tools, progress))
            if progress.state.has_ended:
                return progress
            time.sleep(LOOK_S)


def status_line(tools: Toolbox, progress: Progress) -> str:
    """Return where a run stands, in one line."""
    states = tools.states(progress.request.pool)
    counts, pool = progress.counts, together(list(states.values()))
    closed = {name: state.closed_ms // 1000 for name, state in states.items() if state.closed_ms}
    parts = [
        f"windows {counts['windows_done']:,}/{counts['windows']:,}",
        f"{counts['files']:,} files" if counts["files"] else "",
        f"{counts['klines']:,} rows",
        f"budget {pool.used / pool.limit:.0%} of this minute" if pool.limit else "",
        *(f"the exchange closed {name} for {seconds} s" for name, seconds in closed.items()),
        f"waited {counts['waited_ms'] / 1000:,.0f} s for weight" if counts["waited_ms"] > 1000 else "",
        f"{counts['windows_failed']:,} failed" if counts["windows_failed"] else "",
        f"{_clock(progress.eta_s)} to go" if progress.eta_s is not None and not progress.state.has_ended else "",
    ]
    return ", ".join(part for part in parts if part)


class Shown(Protocol):
    """What moves on stderr while something goes on."""

    def show(self, done: int, total: int, name: str, text: Callable[[], str]) -> None:
        """Show how much is done; a line of its own begins with `name`. `text` is asked for only where it is shown."""
        ...

    def say(self, text: str) -> None:
        """Show a sentence."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def shown(first: str) -> Shown:
    """Return a bar on a terminal, which says `first` until there is more to say, and plain lines elsewhere."""
    return _Bar(first) if sys.stderr.isatty() else _Lines()


class _Lines:
    """Plain lines, for logs and pipes."""

    def __enter__(self) -> Self:
        self._shown = time.monotonic()
        self._said = ""
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, done: int, total: int, name: str, text: Callable[[], str]) -> None:
        if time.monotonic() - self._shown >= LINE_S:
            self._shown = time.monotonic()
            self.say(f"{name}{text()}")

    def say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(text, file=sys.stderr, flush=True)


class _Bar:
    """One line that moves, on a terminal."""

    def __init__(self, first: str) -> None:
        self._first = first

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        self._task = self._bars.add_task(self._first, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, done: int, total: int, name: str, text: Callable[[], str]) -> None:
        self._bars.update(self._task, completed=done, total=total, description=text())

    def say(self, text: str) -> None:
        self._bars.update(self._task, description=text)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

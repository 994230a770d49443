"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, Self

from klinefleet.workers.support.masking import one_line, printable

#: Seconds between two lines where stderr is no terminal.
LINE_INTERVAL_S = 5.0


class ProgressDisplay(Protocol):
    """Shows progress while its `with` statement runs."""

    def show(self, done: int, total: int, label: str, text: Callable[[], str]) -> None:
        """Show how much is done. Plain lines begin with `label`.

        `text` is called only when its result is shown.
        """
        ...

    def say(self, text: str) -> None:
        """Show a sentence."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def progress_display(initial_text: str) -> ProgressDisplay:
    """Return a bar on a terminal, which shows `initial_text` first, and plain lines elsewhere."""
    return _Bar(initial_text) if sys.stderr.isatty() else _Lines()


class _Lines:
    """Plain lines, for logs and pipes."""

    def __enter__(self) -> Self:
        self._shown_at = time.monotonic()
        self._last_text = ""
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, done: int, total: int, label: str, text: Callable[[], str]) -> None:
        if time.monotonic() - self._shown_at >= LINE_INTERVAL_S:
            self._shown_at = time.monotonic()
            self.say(f"{label}{text()}")

    def say(self, text: str) -> None:
        if text != self._last_text:
            self._last_text = text
            print(printable(text), file=sys.stderr, flush=True)


class _Bar:
    """A moving bar, for terminals."""

    def __init__(self, initial_text: str) -> None:
        self._initial_text = initial_text

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(self._initial_text, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int, label: str, text: Callable[[], str]) -> None:
        self._progress.update(self._task, completed=done, total=total, description=one_line(text()))

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=one_line(text))

"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, Self

#: Off a terminal, a line is printed this often.
LINE_S = 5.0


class ProgressDisplay(Protocol):
    """What moves on stderr while something goes on."""

    def show(self, done: int, total: int, name: str, text: Callable[[], str]) -> None:
        """Show how much is done; a line of its own begins with `name`.

        `text` is asked for only where it is shown.
        """
        ...

    def say(self, text: str) -> None:
        """Show a sentence."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def progress_display(first: str) -> ProgressDisplay:
    """Return a bar on a terminal, which says `first` until there is more to say, and plain lines
    elsewhere.
    """
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

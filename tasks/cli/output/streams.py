"""Standard streams that fail no command: full devices, closed pipes and closed descriptors.

No control character gets through them, but for those that a terminal's progress bar needs.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from klinefleet.workers.support.masking import printable

T = TypeVar("T")


class GuardedStream(io.FileIO):
    """A descriptor whose first error is kept, and all that is written after it is dropped.

    So a command whose output nobody can read still ends what it does, with its own exit code.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, and return how much was written or dropped."""
        while self.error is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.error = error
                break
            if written is not None:
                return written
            # It is non-blocking, as a terminal that is shared with another program may be.
            select.select([], [self], [])
        return memoryview(data).nbytes


class PrintableText(io.TextIOWrapper):
    """Text without control characters."""

    def write(self, text: str) -> int:
        """Write, and return how many characters of `text` were written."""
        super().write(printable(text))
        return len(text)


@contextmanager
def guarded_streams() -> Iterator[Callable[[], str]]:
    """Guard stdout and stderr while the block runs.

    Yields what tells in words why stdout could not be written; empty if it was, or if the reader of
    a pipe had enough. Streams that were replaced, as tests do, are left alone.
    """
    if sys.stdin is None:
        # Otherwise the next file that is opened would be stdin.
        os.open(os.devnull, os.O_RDONLY)
    before = sys.stdout, sys.stderr
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        # A progress bar and coloured log lines consist of them; all else is printable already.
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        sys.stderr = _guarded(sys.stderr, 2, io.TextIOWrapper if is_terminal else PrintableText)
    try:
        yield _stdout_fault
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def until_unreadable(parts: Iterable[T]) -> Iterator[T]:
    """Yield the parts as long as stdout can be written."""
    for part in parts:
        if _stdout_error() is not None:
            return
        yield part


def _guarded(
    stream: Any, descriptor: int, text: type[io.TextIOWrapper] = PrintableText
) -> io.TextIOWrapper:
    if stream is None:
        # A closed descriptor. What is written to this one fails alike, and its number is taken.
        descriptor = os.open(os.devnull, os.O_RDONLY)
    raw = GuardedStream(descriptor, "wb", closefd=False)
    encoding = getattr(stream, "encoding", "utf-8")
    return text(
        io.BufferedWriter(raw),
        # Click takes ASCII for a mistake, and would write past this stream.
        encoding="utf-8" if codecs.lookup(encoding).name == "ascii" else encoding,
        # A symbol in Chinese letters is no reason to fail on a terminal that has none.
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", True),
    )


def _stdout_error() -> OSError | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, GuardedStream) else None


def _stdout_fault() -> str:
    sys.stdout.flush()
    error = _stdout_error()
    if error is None or isinstance(error, BrokenPipeError):
        return ""
    if error.errno == errno.EBADF:
        return "stdout is closed"
    return f"stdout cannot be written: {(error.strerror or 'no reason given').lower()}"

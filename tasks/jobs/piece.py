"""A piece of a job, and its results."""

from __future__ import annotations

from typing import Any, Protocol, Self


class Piece(Protocol):
    """A part of a job that one task does. `str` returns its name, which no other piece has."""

    @property
    def task(self) -> str:
        """The name of its task, which is sent with the job's id and `to_arguments`."""
        ...

    @property
    def queue(self) -> str: ...

    @property
    def label(self) -> str:
        """What Flower shows of it."""
        ...

    def to_arguments(self) -> list[Any]:
        """Return the piece as plain values."""
        ...


class Results(Protocol):
    """The results of some pieces."""

    failed: dict[str, str]
    """What could not be done: name → reason."""

    def add(self, other: Self) -> None:
        """Add the results of another piece."""
        ...

"""What is done with the blocks under way, and since when: `fetching@<Redis ms>` or `compacting@<Redis ms>` in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

FETCHING, COMPACTING = "fetching", "compacting"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a run has under way."""

    windows: int
    """Issued and not yet done."""
    failed: int
    since_ms: dict[str, list[int]]
    """Since when, for each block that is FETCHING or COMPACTING."""

    @classmethod
    def of(cls, counted: list[bytes | None], failed: int, blocks: list[bytes]) -> Self:
        """Return what Redis tells of a run: windows issued, done and failed; its failures; the words on its blocks."""
        issued, done, lost = (int(count or 0) for count in counted)
        since_ms: dict[str, list[int]] = {FETCHING: [], COMPACTING: []}
        for doing, _, ms in (told.decode().partition("@") for told in blocks):
            since_ms[doing].append(int(ms))
        return cls(issued - done - lost, failed, since_ms)


def begun(doing: str, ms: int) -> str:
    """Return the word on a block with which something is done since `ms`."""
    return f"{doing}@{ms}"


def doing_of(told: bytes) -> str:
    """Return what is done with a block by the word on it."""
    return told.decode().partition("@")[0]

"""Arithmetic on sorted lists of spans: what is held, what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from klinefleet.workers.domain.timestamps import iso, parse_iso


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The time [start_ms, end_ms), ms UTC."""

    start_ms: int
    end_ms: int

    def __str__(self) -> str:
        return f"{iso(self.start_ms)}..{iso(self.end_ms)}"

    @classmethod
    def parse(cls, text: str) -> Span:
        """Return the span of a text that `str` returned; ValueError where it is none."""
        start, end = text.split("..")
        return cls(parse_iso(start), parse_iso(end))

    @property
    def is_empty(self) -> bool:
        return self.start_ms >= self.end_ms

    def clip(self, other: Span) -> Span:
        """Return what both spans share; it may be empty."""
        return Span(max(self.start_ms, other.start_ms), min(self.end_ms, other.end_ms))


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the same time as the fewest spans, oldest first."""
    merged: list[Span] = []
    for span in sorted(span for span in spans if not span.is_empty):
        if merged and span.start_ms <= merged[-1].end_ms:
            merged[-1] = Span(merged[-1].start_ms, max(merged[-1].end_ms, span.end_ms))
        else:
            merged.append(span)
    return merged


def gaps(held: Iterable[Span], wanted: Span) -> list[Span]:
    """Return the parts of `wanted` that `held` does not cover, oldest first."""
    missing, start_ms = [], wanted.start_ms
    for span in union(held):
        if span.start_ms >= wanted.end_ms:
            break
        missing.append(Span(start_ms, span.start_ms))
        start_ms = max(start_ms, span.end_ms)
    missing.append(Span(start_ms, wanted.end_ms))
    return [span for span in missing if not span.is_empty]


def clip(spans: Iterable[Span], bounds: Span) -> list[Span]:
    """Return the parts of `spans` inside `bounds`, as the fewest spans."""
    return union(span.clip(bounds) for span in spans)


def both(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """Return the time that is in both, oldest first."""
    left, right = union(one), union(other)
    shared, i, j = list[Span](), 0, 0
    while i < len(left) and j < len(right):
        span = left[i].clip(right[j])
        if not span.is_empty:
            shared.append(span)
        if left[i].end_ms < right[j].end_ms:
            i += 1
        else:
            j += 1
    return shared


def without(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """Return the time of `one` that is not in `other`, oldest first."""
    left = union(one)
    return both(left, gaps(other, Span(left[0].start_ms, left[-1].end_ms))) if left else []

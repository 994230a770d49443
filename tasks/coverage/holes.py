"""Every part of a series' time that has no rows, with the reason: pure arithmetic over what is
known of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS

#: A gap is the exchange's own outage where at least so many series have it, and more than half of
#: those that could.
LEAST_SHARING = 3


class Reason(StrEnum):
    """Why there are no rows."""

    BEFORE_LISTING = "before listing"
    AFTER_END = "after the end of trading"
    OUTAGE = "exchange outage"
    """Asked for and answered: most series of the market have no candle then."""
    NO_CANDLE = "no candle at the exchange"
    """Asked for and answered: this series has no candle then, most others have."""
    FAILED = "failed"
    """A run asked for it in vain."""
    NOT_PUBLISHED = "not published yet"
    """A run that was to ask the archive alone found no file of it, and there may be one later."""
    BEING_FETCHED = "being fetched"
    NOT_FETCHED = "not fetched"
    DAMAGED = "damaged"
    """The lake has a partition of it, and that does not decode."""

    @property
    def is_lack(self) -> bool:
        """Whether the exchange has rows then, as far as is known, and the lake has not."""
        return self in (
            Reason.FAILED, Reason.NOT_PUBLISHED, Reason.BEING_FETCHED, Reason.NOT_FETCHED, Reason.DAMAGED
        )  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class MissingSpan:
    """A part of a series' time without rows."""

    span: Span
    reason: Reason
    told: str = ""
    """What is known beyond the reason: how many series share an outage, why it failed and in which
    run.
    """
    again: str = ""
    """When it will be tried again; empty where nothing is to be tried."""


@dataclass(frozen=True, slots=True)
class HeldSpans:
    """What the lake holds of a series, in ms UTC."""

    covered: list[Span] = field(default_factory=list)
    """The time that was asked for and answered, as the fewest spans, oldest first."""
    gaps: list[Span] = field(default_factory=list)
    """The parts of it in which the calendar has rows and the exchange had none."""

    @property
    def present(self) -> list[Span]:
        """The time that has its rows."""
        return spans.without(self.covered, self.gaps)


@dataclass(frozen=True, slots=True)
class Outage:
    """Time in which most series of a group had no candle."""

    span: Span
    missed: int
    """How many series had none, at most at once."""
    alive: int
    """How many could have had one, at most: they were listed, and the lake has asked for that time
    of theirs.
    """


def lived(held: HeldSpans, known: Span | None) -> Span:
    """Return the time in which a series had candles: what is `known` of it, corrected by what is
    held.

    None: not known, so nothing counts as before or after it. The catalog tells whole days, and
    speaks of klines: rows beyond its dates prove a longer life, and asked for in vain beside them a
    shorter one.
    """
    if known is None:
        return Span(0, NEVER_MS)
    present = held.present
    start_ms = min(known.start_ms, present[0].start_ms) if present else known.start_ms
    end_ms = max(known.end_ms, present[-1].end_ms) if present else known.end_ms
    for gap in held.gaps:
        if present and gap.start_ms <= start_ms < gap.end_ms <= present[0].start_ms:
            start_ms = gap.end_ms
        if (
            present
            and end_ms != NEVER_MS
            and present[-1].end_ms <= gap.start_ms < end_ms <= gap.end_ms
        ):
            end_ms = gap.start_ms
    return Span(start_ms, end_ms)


def outages(group: Collection[tuple[HeldSpans, Span]]) -> list[Outage]:
    """Return the time in which most of a group's series, each with its life, had no candle, oldest
    first.

    Counted are the series that were alive and of which the lake has asked: at least three of them,
    and more than half.
    """
    changes: dict[int, list[int]] = {}
    for held, life in group:
        for which, parts in enumerate((held.gaps, held.covered)):
            for span in spans.clip(parts, life):
                changes.setdefault(span.start_ms, [0, 0])[which] += 1
                changes.setdefault(span.end_ms, [0, 0])[which] -= 1
    found: list[Outage] = []
    missed = alive = 0
    moments = sorted(changes)
    for start_ms, end_ms in pairwise(moments):
        missed, alive = missed + changes[start_ms][0], alive + changes[start_ms][1]
        if missed >= LEAST_SHARING and missed * 2 > alive:
            last = found[-1] if found else None
            if last and last.span.end_ms == start_ms:
                most = max(last.missed, missed), max(last.alive, alive)
                found[-1] = Outage(Span(last.span.start_ms, end_ms), *most)
            else:
                found.append(Outage(Span(start_ms, end_ms), missed, alive))
    return found


def holes(
    series: Series,
    asked: Span,
    held: HeldSpans,
    life: Span,
    shared: Sequence[Outage],
    noted: Iterable[MissingSpan],
) -> list[MissingSpan]:
    """Return every part of `asked` without rows in which the calendar has some, oldest first, each
    once.

    `shared` are the group's outages. `noted` is what runs tell of time that is not covered; of two
    that speak of the same time the first stands.
    """
    layers = [
        MissingSpan(Span(0, life.start_ms), Reason.BEFORE_LISTING),
        MissingSpan(Span(life.end_ms, max(life.end_ms, NEVER_MS)), Reason.AFTER_END),
    ]
    found: list[MissingSpan] = []
    beyond = _painted(found, spans.gaps(held.present, asked), layers)
    silent = spans.both(beyond, held.gaps)
    found += [
        _of_most(span, shared) for span in spans.both(silent, (outage.span for outage in shared))
    ]
    found += [
        MissingSpan(span, Reason.NO_CANDLE)
        for span in spans.without(silent, (outage.span for outage in shared))
    ]
    left = _painted(found, spans.without(beyond, held.covered), noted)
    found += [MissingSpan(span, Reason.NOT_FETCHED) for span in left]
    return _joined(series.interval, found)


def _of_most(span: Span, shared: Sequence[Outage]) -> MissingSpan:
    """Return the hole that one of the outages, which are sorted and do not touch, has made."""
    outage = shared[
        bisect_right(shared, span.start_ms, key=lambda outage: outage.span.start_ms) - 1
    ]
    return MissingSpan(
        span, Reason.OUTAGE, f"{outage.missed:,} of {outage.alive:,} series had none"
    )


def _painted(
    found: list[MissingSpan], parts: list[Span], layers: Iterable[MissingSpan]
) -> list[Span]:
    """Give the layers' reasons to `parts`, where they speak of them; returns what is left."""
    for layer in layers:
        if not parts:
            break
        taken = spans.clip(parts, layer.span)
        if taken:
            found += [MissingSpan(span, layer.reason, layer.told, layer.again) for span in taken]
            parts = spans.without(parts, taken)
    return parts


def _joined(interval: Interval, found: list[MissingSpan]) -> list[MissingSpan]:
    """Return the holes in which a row opens, neighbours of one reason as one."""
    joined: list[MissingSpan] = []
    for hole in sorted(found):
        last = joined[-1] if joined else None
        same = last and (last.span.end_ms, last.reason, last.told, last.again) == (
            hole.span.start_ms, hole.reason, hole.told, hole.again
        )  # fmt: skip
        if last and same:
            joined[-1] = MissingSpan(
                Span(last.span.start_ms, hole.span.end_ms), hole.reason, hole.told, hole.again
            )
        else:
            joined.append(hole)
    return [hole for hole in joined if interval.opens(hole.span.start_ms, hole.span.end_ms)]

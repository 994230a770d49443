"""Finds every part of a series' time without rows, and the reason. It reads nothing itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS
from klinefleet.workers.lake.coverage import HeldTime

#: A gap is an outage of the exchange if at least this many series share it, and more than half of
#: those that could have rows.
MIN_SERIES_IN_OUTAGE = 3
#: The next step of time that one witness says to have no rows.
_ASK_AGAIN = "the next download asks another source, if there is one"


class Reason(StrEnum):
    """Why a series has no rows in some time."""

    BEFORE_LISTING = "before listing"
    AFTER_END = "after the end of trading"
    OUTAGE = "exchange outage"
    """Fetched: neither this series nor most others of the market have a candle."""
    NO_CANDLE = "no candle at the exchange"
    """Fetched: this series has no candle, most others do."""
    ONE_WITNESS = "absent by one witness"
    """Fetched: one source alone could be asked, and has no candle."""
    FAILED = "failed"
    """A run tried to fetch it and could not."""
    NOT_PUBLISHED = "not published yet"
    """A run that may use the archive only found no file; one may still be published."""
    BEING_FETCHED = "being fetched"
    NOT_FETCHED = "not fetched"
    DAMAGED = "damaged"
    """The lake's partition of it does not decode."""

    @property
    def is_fetchable(self) -> bool:
        """Return True if the exchange has rows, as far as is known, and the lake does not."""
        return self in (
            Reason.FAILED,
            Reason.NOT_PUBLISHED,
            Reason.BEING_FETCHED,
            Reason.NOT_FETCHED,
            Reason.DAMAGED,
        )


@dataclass(frozen=True, slots=True, order=True)
class MissingSpan:
    """A part of a series' time without rows."""

    span: Span
    reason: Reason
    detail: str = ""
    """What is known beyond the reason, such as the run and its error."""
    next_step: str = ""
    """What will fill it, or what to do about it; empty if nothing is known."""

    def is_like(self, other: MissingSpan) -> bool:
        """Return True if only the spans may differ."""
        mine = self.reason, self.detail, self.next_step
        return mine == (other.reason, other.detail, other.next_step)


@dataclass(frozen=True, slots=True)
class Outage:
    """Time in which most series of a group had no candle."""

    span: Span
    missed: int
    """The most series that had no candle at the same time."""
    alive: int
    """The most series that could have had one: they traded, and the time was fetched."""


def trading_span(held: HeldTime, listed: Span | None) -> Span:
    """Return the time in which a series had candles.

    `listed` is what the catalog says; None means unknown: then nothing is before or after it.
    Catalog dates are whole days, and those of klines. Held rows widen the span. Confirmed gaps at
    its ends narrow it.
    """
    if listed is None:
        return Span(0, NEVER_MS)
    present = held.present
    if not present:
        return listed
    first_ms, last_ms = present[0].start_ms, present[-1].end_ms
    start_ms, end_ms = min(listed.start_ms, first_ms), max(listed.end_ms, last_ms)
    for gap in held.gaps:
        if gap.start_ms <= start_ms < gap.end_ms <= first_ms:
            start_ms = gap.end_ms
        if end_ms != NEVER_MS and last_ms <= gap.start_ms < end_ms <= gap.end_ms:
            end_ms = gap.start_ms
    return Span(start_ms, end_ms)


def find_outages(group: Iterable[tuple[HeldTime, Span]]) -> list[Outage]:
    """Return the time in which most of a group's series had no candle, oldest first.

    `group` has the held and the trading span of each series. A series counts where it traded and
    its time was fetched. An outage takes at least three series without a candle, and more than
    half of those that count.
    """
    # How the counts of series change at a moment: [without a candle, that count].
    changes: dict[int, list[int]] = {}
    for held, trading in group:
        for column, parts in enumerate((held.gaps, held.covered)):
            for span in spans.clip(parts, trading):
                changes.setdefault(span.start_ms, [0, 0])[column] += 1
                changes.setdefault(span.end_ms, [0, 0])[column] -= 1
    found: list[Outage] = []
    missed = alive = 0
    for start_ms, end_ms in pairwise(sorted(changes)):
        missed, alive = missed + changes[start_ms][0], alive + changes[start_ms][1]
        if missed < MIN_SERIES_IN_OUTAGE or missed * 2 <= alive:
            continue
        last = found[-1] if found else None
        if last and last.span.end_ms == start_ms:
            span = Span(last.span.start_ms, end_ms)
            found[-1] = Outage(span, max(last.missed, missed), max(last.alive, alive))
        else:
            found.append(Outage(Span(start_ms, end_ms), missed, alive))
    return found


def find_holes(
    series: Series,
    requested: Span,
    held: HeldTime,
    trading: Span,
    outages: Sequence[Outage],
    notes: Iterable[MissingSpan],
) -> list[MissingSpan]:
    """Return the holes of `requested`, oldest first, without overlaps.

    `trading` is the series' trading span; `outages` are those of its group, sorted. `notes` say
    what is known of time that was not fetched; where two overlap, the first counts.
    """
    not_trading = [
        MissingSpan(Span(0, trading.start_ms), Reason.BEFORE_LISTING),
        MissingSpan(Span(trading.end_ms, max(trading.end_ms, NEVER_MS)), Reason.AFTER_END),
    ]
    found: list[MissingSpan] = []
    missing = _assign_reasons(found, spans.gaps(held.present, requested), not_trading)
    by_one = spans.both(missing, held.absent_by_one)
    found += [MissingSpan(span, Reason.ONE_WITNESS, next_step=_ASK_AGAIN) for span in by_one]
    confirmed = spans.without(spans.both(missing, held.gaps), by_one)
    in_outage = spans.both(confirmed, (outage.span for outage in outages))
    found += [_outage_hole(span, outages) for span in in_outage]
    alone = spans.without(confirmed, (outage.span for outage in outages))
    found += [MissingSpan(span, Reason.NO_CANDLE) for span in alone]
    unknown = _assign_reasons(found, spans.without(missing, held.covered), notes)
    found += [MissingSpan(span, Reason.NOT_FETCHED) for span in unknown]
    return _join_neighbours(series.interval, found)


def _outage_hole(span: Span, outages: Sequence[Outage]) -> MissingSpan:
    """Return the hole of the outage that `span` lies in; outages are sorted and do not touch."""
    later = bisect_right(outages, span.start_ms, key=lambda outage: outage.span.start_ms)
    outage = outages[later - 1]
    detail = f"{outage.missed:,} of {outage.alive:,} series had none"
    return MissingSpan(span, Reason.OUTAGE, detail)


def _assign_reasons(
    found: list[MissingSpan], parts: list[Span], known: Iterable[MissingSpan]
) -> list[Span]:
    """Append the holes of `parts` whose reason is known; return the rest of `parts`."""
    for one in known:
        if not parts:
            break
        if taken := spans.clip(parts, one.span):
            found += [MissingSpan(span, one.reason, one.detail, one.next_step) for span in taken]
            parts = spans.without(parts, taken)
    return parts


def _join_neighbours(interval: Interval, found: list[MissingSpan]) -> list[MissingSpan]:
    """Return the holes in which a row opens; those that touch and are alike become one."""
    joined: list[MissingSpan] = []
    for hole in sorted(found):
        last = joined[-1] if joined else None
        if last and last.span.end_ms == hole.span.start_ms and last.is_like(hole):
            span = Span(last.span.start_ms, hole.span.end_ms)
            joined[-1] = MissingSpan(span, hole.reason, hole.detail, hole.next_step)
        else:
            joined.append(hole)
    return [hole for hole in joined if interval.opens(hole.span.start_ms, hole.span.end_ms)]

"""Which source answers for which missing time: pure arithmetic over what is published and what REST
would cost.

Files cost no weight, so they are taken wherever their lane is done sooner than REST would be; REST
answers for the last days, for what the archive lacks, and for requests so small that one round trip
settles them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from klinefleet.workers.binance.archive_names import ArchiveFile, has_daily
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import months_of
from klinefleet.workers.domain.series import Block, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.sources.windows import windows

#: REST answers so few calls in a round trip or two, sooner than any file could be listed, asked for
#: and unpacked.
SMALL_CALLS = 100
#: Daily files of one task: like the pages of a window, they hide what a task itself costs.
FILES_OF_WINDOW = 9
#: Of a month of which no more days are wanted, daily files bring fewer bytes for as many round
#: trips.
EDGE_DAYS = FILES_OF_WINDOW
#: A monthly file that is not there so long after its month is no longer late: the latest seen came
#: mid-month.
LATE_MS = 45 * DAY_MS

#: Why time that no allowed source has is noted as failed.
NO_FILE = "the archive has no file of it (yet); REST was not to be asked"


class PublishedFiles(Protocol):
    """What the archive has published of one series."""

    def monthly(self) -> Collection[str]:
        """Return the months (YYYY-MM) there is a file of."""
        ...

    def daily(self, month: str) -> Collection[str]:
        """Return the days (YYYY-MM-DD) of a month there is a file of."""
        ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is to be done about a block's missing time."""

    windows: list[Window]
    absent: list[Span] = field(default_factory=list)
    """Time that no allowed source has."""
    told: dict[str, str] = field(default_factory=dict)
    """Files that should be there and are not: why, and what answers instead; none from before the
    first there is.
    """


def assign_sources(
    block: Block, parts: list[Span], shelf: PublishedFiles, policy: Policy, *, now_ms: int
) -> Assignment:
    """Return the windows that fetch the missing `parts` of a block; asks the shelf only where files
    may pay.
    """
    series = block.series
    if policy.is_rest_only or not parts:
        return Assignment(list(windows(block, parts))) if policy.may_rest else Assignment([], parts)
    published = shelf.monthly()
    by_month = {
        month: spans.clip(parts, bounds) for part in parts for month, bounds in months_of(part)
    }
    in_files = {
        m: pieces
        for m, pieces in by_month.items()
        if m in published and not _is_edge(series, pieces, shelf)
    }
    if not policy.prefers_files(
        len(in_files), series, spans.union(p for pieces in in_files.values() for p in pieces)
    ):
        in_files = {}
    made = [Window(block, _hull(pieces), Source.MONTHLY) for pieces in in_files.values()]
    rest, told = list[Span](), dict[str, str]()
    for month, pieces in by_month.items():
        if month not in in_files:
            daily = _daily(block, month, pieces, shelf, policy)
            made += daily
            left = [gap for piece in pieces for gap in spans.gaps((w.span for w in daily), piece)]
            rest += left
            has_begun = bool(daily) or month >= min(published, default="")
            if (
                month not in published
                and has_begun
                and (late := _lateness(series, policy, pieces, now_ms))
            ):
                told |= {late[0]: f"{late[1]}: {_instead(len(daily), bool(left), policy)}"}
    rest = [span for span in spans.union(rest) if series.interval.opens(span.start_ms, span.end_ms)]
    if not policy.may_rest:
        return Assignment(sorted(made), rest, told)
    return Assignment(sorted([*made, *windows(block, rest)]), [], told)


def fallback(window: Window, policy: Policy, *, is_refused: bool = False) -> list[Window]:
    """Return what answers for an archive window whose file cannot be used: daily files for a month,
    then REST.

    Where the archive refuses this address, its daily files would be refused as well.
    """
    series = window.block.series
    may_days = not (is_refused and policy.may_rest)
    if window.source is Source.MONTHLY and has_daily(series) and may_days:
        days = list(days_of(window.span))
        if policy.prefers_files(len(days), series, [window.span]):
            return list(_runs_of_days(window.block, days))
    return list(windows(window.block, [window.span])) if policy.may_rest else []


def files_of(window: Window) -> list[tuple[ArchiveFile, Span]]:
    """Return the files of an archive window, each with the time that is wanted of it."""
    spanned = [window.span] if window.source is Source.MONTHLY else list(days_of(window.span))
    return [
        (ArchiveFile.of(window.block.series, window.source, span.start_ms), span)
        for span in spanned
    ]


def days_of(span: Span) -> Iterator[Span]:
    """Yield the parts of `span` day by day, UTC, oldest first."""
    start_ms = span.start_ms
    while start_ms < span.end_ms:
        end_ms = min(span.end_ms, start_ms - start_ms % DAY_MS + DAY_MS)
        yield Span(start_ms, end_ms)
        start_ms = end_ms


def _is_edge(series: Series, pieces: list[Span], shelf: PublishedFiles) -> bool:
    """Return whether so little of a month is wanted that its days' files bring less; all of them
    have to be there.
    """
    days = [day for piece in pieces for day in days_of(piece)]
    if not has_daily(series) or len(days) > EDGE_DAYS:
        return False
    periods = [ArchiveFile.of(series, Source.DAILY, day.start_ms).period for day in days]
    return set(periods) <= set(shelf.daily(periods[0][: len("2024-01")]))


def _daily(
    block: Block, month: str, pieces: list[Span], shelf: PublishedFiles, policy: Policy
) -> list[Window]:
    series = block.series
    days = [day for piece in pieces for day in days_of(piece)]
    if not has_daily(series) or not policy.prefers_files(len(days), series, pieces):
        return []
    published = shelf.daily(month)
    by_file: dict[str, list[Span]] = {}
    for day in days:
        period = ArchiveFile.of(series, Source.DAILY, day.start_ms).period
        if period in published:
            by_file.setdefault(period, []).append(day)
    return list(_runs_of_days(block, [_hull(of_day) for of_day in by_file.values()]))


def _runs_of_days(block: Block, days: list[Span]) -> Iterator[Window]:
    """Yield windows of neighbouring days, at most `FILES_OF_WINDOW` each."""
    run: list[Span] = []
    for day in days:
        if run and (run[-1].end_ms != day.start_ms or len(run) == FILES_OF_WINDOW):
            yield Window(block, _hull(run), Source.DAILY)
            run = []
        run.append(day)
    if run:
        yield Window(block, _hull(run), Source.DAILY)


def _lateness(
    series: Series, policy: Policy, pieces: list[Span], now_ms: int
) -> tuple[str, str] | None:
    """Return the monthly file that is missed and what it is, None where nobody would expect or want
    it.
    """
    ends_ms = next(bounds.end_ms for _, bounds in months_of(pieces[0]))
    if ends_ms > now_ms or not policy.prefers_files(1, series, pieces):
        return None
    file = ArchiveFile.of(series, Source.MONTHLY, pieces[0].start_ms)
    return file.key, "not published yet" if now_ms - ends_ms < LATE_MS else "absent"


def _instead(daily: int, is_rest: bool, policy: Policy) -> str:
    rest = ("REST" if policy.may_rest else "nothing") if is_rest else ""
    return (
        " and ".join(part for part in ("daily files" if daily else "", rest) if part) + " instead"
    )


def _hull(pieces: list[Span]) -> Span:
    return Span(pieces[0].start_ms, pieces[-1].end_ms)

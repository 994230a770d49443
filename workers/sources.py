"""Which source answers for which missing time: pure arithmetic over what is published and what REST would cost.

Files cost no weight, so they are taken wherever their lane is done sooner than REST would be; REST answers for the
last days, for what the archive lacks, and for requests so small that one round trip settles them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from workers import spans
from workers.binance.archive_files import ArchiveFile, has_daily
from workers.binance.markets import pages
from workers.model import DAY_MS, Block, Series, Source, Span, Window, months_of
from workers.windows import windows

#: What a file costs its lane: itself and its CHECKSUM, at the archive's usual 0.2 s each, fifty at a time; seconds.
FILE_S = 0.01
#: REST answers so few calls in a round trip or two, sooner than any file could be listed, asked for and unpacked.
SMALL_CALLS = 100
#: Daily files of one task: like the pages of a window, they hide what a task itself costs.
FILES_OF_WINDOW = 9
#: Of a month of which no more days are wanted, daily files bring fewer bytes for as many round trips.
EDGE_DAYS = FILES_OF_WINDOW
#: A monthly file that is not there so long after its month is no longer late: the latest seen came mid-month.
LATE_MS = 45 * DAY_MS

#: Why time that no allowed source has is noted as failed.
NO_FILE = "the archive has no file of it (yet); REST was not to be asked"


class Mode(StrEnum):
    """Which sources a request allows."""

    AUTO = "auto"
    ARCHIVE = "archive"
    REST = "rest"


class Shelf(Protocol):
    """What the archive has published of one series."""

    def monthly(self) -> Collection[str]:
        """Return the months (YYYY-MM) there is a file of."""
        ...

    def daily(self, month: str) -> Collection[str]:
        """Return the days (YYYY-MM-DD) of a month there is a file of."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be asked, and what REST can do in a second."""

    mode: Mode
    weight_per_s: float
    is_small: bool = False
    """Whether so little is wanted, in all or of this series, that REST answers it at once."""
    is_listed: bool = True
    """Whether REST knows the symbol; of one that it has forgotten only the archive tells."""

    @property
    def may_rest(self) -> bool:
        return self.mode is not Mode.ARCHIVE and self.is_listed

    @property
    def is_rest_only(self) -> bool:
        return self.mode is Mode.REST or (self.is_listed and self.mode is Mode.AUTO and self.is_small)

    def prefers_files(self, files: int, series: Series, parts: Iterable[Span]) -> bool:
        """Return whether so many files are done with sooner than REST with `parts`."""
        return not self.may_rest or files * FILE_S <= self.rest_s(series, parts)

    def rest_s(self, series: Series, parts: Iterable[Span]) -> float:
        """Return the seconds of the weight budget that REST takes for `parts`."""
        return sum(page.weight for part in parts for page in pages(series, part)) / self.weight_per_s


@dataclass(frozen=True, slots=True)
class Cut:
    """What is to be done about a block's missing time."""

    windows: list[Window]
    absent: list[Span] = field(default_factory=list)
    """Time that no allowed source has."""
    told: dict[str, str] = field(default_factory=dict)
    """Files that should be there and are not: why, and what answers instead; none from before the first there is."""


def cut(block: Block, parts: list[Span], shelf: Shelf, policy: Policy, *, now_ms: int) -> Cut:
    """Return the windows that fetch the missing `parts` of a block; asks the shelf only where files may pay."""
    series = block.series
    if policy.is_rest_only or not parts:
        return Cut(list(windows(block, parts))) if policy.may_rest else Cut([], parts)
    published = shelf.monthly()
    by_month = {month: spans.clip(parts, bounds) for part in parts for month, bounds in months_of(part)}
    in_files = {m: pieces for m, pieces in by_month.items() if m in published and not _is_edge(series, pieces, shelf)}
    if not policy.prefers_files(len(in_files), series, spans.union(p for pieces in in_files.values() for p in pieces)):
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
            if month not in published and has_begun and (late := _lateness(series, policy, pieces, now_ms)):
                told |= {late[0]: f"{late[1]}: {_instead(len(daily), bool(left), policy)}"}
    rest = [span for span in spans.union(rest) if series.interval.opens(span.start_ms, span.end_ms)]
    if not policy.may_rest:
        return Cut(sorted(made), rest, told)
    return Cut(sorted([*made, *windows(block, rest)]), [], told)


def fallback(window: Window, policy: Policy, *, is_refused: bool = False) -> list[Window]:
    """Return what answers for an archive window whose file cannot be used: daily files for a month, then REST.

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
    return [(ArchiveFile.of(window.block.series, window.source, span.start_ms), span) for span in spanned]


def days_of(span: Span) -> Iterator[Span]:
    """Yield the parts of `span` day by day, UTC, oldest first."""
    start_ms = span.start_ms
    while start_ms < span.end_ms:
        end_ms = min(span.end_ms, start_ms - start_ms % DAY_MS + DAY_MS)
        yield Span(start_ms, end_ms)
        start_ms = end_ms


def _is_edge(series: Series, pieces: list[Span], shelf: Shelf) -> bool:
    """Return whether so little of a month is wanted that its days' files bring less; all of them have to be there."""
    days = [day for piece in pieces for day in days_of(piece)]
    if not has_daily(series) or len(days) > EDGE_DAYS:
        return False
    periods = [ArchiveFile.of(series, Source.DAILY, day.start_ms).period for day in days]
    return set(periods) <= set(shelf.daily(periods[0][: len("2024-01")]))


def _daily(block: Block, month: str, pieces: list[Span], shelf: Shelf, policy: Policy) -> list[Window]:
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


def _lateness(series: Series, policy: Policy, pieces: list[Span], now_ms: int) -> tuple[str, str] | None:
    """Return the monthly file that is missed and what it is, None where nobody would expect or want it."""
    ends_ms = next(bounds.end_ms for _, bounds in months_of(pieces[0]))
    if ends_ms > now_ms or not policy.prefers_files(1, series, pieces):
        return None
    file = ArchiveFile.of(series, Source.MONTHLY, pieces[0].start_ms)
    return file.key, "not published yet" if now_ms - ends_ms < LATE_MS else "absent"


def _instead(daily: int, is_rest: bool, policy: Policy) -> str:
    rest = ("REST" if policy.may_rest else "nothing") if is_rest else ""
    return " and ".join(part for part in ("daily files" if daily else "", rest) if part) + " instead"


def _hull(pieces: list[Span]) -> Span:
    return Span(pieces[0].start_ms, pieces[-1].end_ms)

"""Assigns a source to each missing time: arithmetic over what is published and what REST costs.

Archive files cost no weight, so they are taken wherever they are done sooner than REST. REST
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
from klinefleet.workers.domain.series import Partition, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.sources.windows import windows

#: REST answers so few calls in a round trip or two: sooner than a file can be listed, downloaded
#: and unpacked.
SMALL_CALLS = 100
#: Files of one window. Like the pages of a window, they hide what a task itself costs.
FILES_PER_WINDOW = {Source.DAILY: 9, Source.MONTHLY: 12}
#: If so few days of a month are missing, daily files are fewer bytes for as many round trips.
EDGE_DAYS = 9
#: A monthly file that is not published so long after its month is absent, not late: the latest ever
#: seen came in mid-month.
LATE_MS = 45 * DAY_MS

#: The failures of time that no source has: REST is not allowed, has no such symbol, or is away.
NO_FILE = "no archive file published; REST is disabled (--source archive)"
NO_FILE_NO_SYMBOL = "no archive file published; REST does not have the symbol"
NO_FILE_NO_REST = "no archive file published; REST does not answer"


class PublishedFiles(Protocol):
    """What the archive has published of one series."""

    def monthly(self) -> Collection[str]:
        """Return the months (YYYY-MM) that have a file."""
        ...

    def daily(self, month: str) -> Collection[str]:
        """Return the days (YYYY-MM-DD) of a month that have a file."""
        ...


class NothingPublished:
    """What is published by an archive that does not answer: no files."""

    def monthly(self) -> list[str]:
        return []

    def daily(self, month: str) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class Assignment:
    """The sources of a partition's missing time."""

    windows: list[Window]
    unavailable: list[Span] = field(default_factory=list)
    """Time that no allowed source has."""
    missing_files: dict[str, str] = field(default_factory=dict)
    """Expected files that are missing: key → reason and replacement.

    Months before the first file of the series are not expected.
    """


def assign_sources(
    partition: Partition,
    parts: list[Span],
    published: PublishedFiles,
    policy: Policy,
    *,
    now_ms: int,
) -> Assignment:
    """Return the windows that fetch the missing `parts` of a partition.

    `published` is asked only where files may pay: a listing is a round trip.
    """
    if policy.is_rest_only or not parts:
        if policy.may_rest:
            return Assignment(list(windows(partition, parts)))
        return Assignment([], parts)
    pieces_by_month = {
        month: spans.clip(parts, bounds) for part in parts for month, bounds in months_of(part)
    }
    months = published.monthly()
    candidates = {month: pieces for month, pieces in pieces_by_month.items() if month in months}
    from_monthly = _monthly_pieces(partition.series, candidates, published, policy)
    hulls = [_hull(pieces) for pieces in from_monthly.values()]
    assigned = list(_windows_of_files(partition, hulls, Source.MONTHLY))
    first_month = min(months, default="")
    from_rest, missing_files = list[Span](), dict[str, str]()
    for month, pieces in pieces_by_month.items():
        if month in from_monthly:
            continue
        daily = _daily_windows(partition, pieces, published, policy)
        assigned += daily
        left = [gap for piece in pieces for gap in spans.gaps((one.span for one in daily), piece)]
        from_rest += left
        is_expected = month not in months and (bool(daily) or month >= first_month)
        missing = _missing_file(partition.series, policy, pieces, now_ms) if is_expected else None
        if missing:
            key, reason = missing
            missing_files[key] = f"{reason}: {_replacement(len(daily), bool(left), policy)}"
    opens = partition.series.interval.opens
    from_rest = [span for span in spans.union(from_rest) if opens(span.start_ms, span.end_ms)]
    if not policy.may_rest:
        return Assignment(sorted(assigned), from_rest, missing_files)
    return Assignment(sorted([*assigned, *windows(partition, from_rest)]), [], missing_files)


def fallback(window: Window, policy: Policy, *, is_refused: bool = False) -> list[Window]:
    """Return the windows that replace an archive window whose file is unusable.

    Daily files replace a month, REST the rest. `is_refused`: the archive refuses this address, so
    it would refuse daily files too.
    """
    series = window.partition.series
    may_use_days = not (is_refused and policy.may_rest)
    if window.source == Source.MONTHLY and has_daily(series) and may_use_days:
        days = list(days_of(window.span))
        if policy.prefers_files(len(days), series, [window.span]):
            return list(_windows_of_files(window.partition, days, Source.DAILY))
    return list(windows(window.partition, [window.span])) if policy.may_rest else []


def published_parts(
    partition: Partition, parts: list[Span], source: Source, published: PublishedFiles
) -> list[Window]:
    """Return the windows that ask the published files of a source about `parts`.

    Of each file it is one window's part, from the first to the last time that is asked for.
    """
    by_file: dict[str, list[Span]] = {}
    for part in parts:
        months = (month.clip(part) for _, month in months_of(part))
        for unit in days_of(part) if source == Source.DAILY else months:
            period = ArchiveFile.of(partition.series, source, unit.start_ms).period
            by_file.setdefault(period, []).append(unit)
    found = {
        period: _hull(pieces)
        for period, pieces in by_file.items()
        if period in _periods(published, source, period)
    }
    return list(_windows_of_files(partition, list(found.values()), source))


def files_of(window: Window) -> list[tuple[ArchiveFile, Span]]:
    """Return the files of an archive window, each with the part of the window that it covers."""
    series, span = window.partition.series, window.span
    if window.source == Source.MONTHLY:
        parts = [month.clip(span) for _, month in months_of(span)]
    else:
        parts = list(days_of(span))
    return [(ArchiveFile.of(series, window.source, part.start_ms), part) for part in parts]


def days_of(span: Span) -> Iterator[Span]:
    """Yield the parts of `span` day by day, UTC, oldest first."""
    start_ms = span.start_ms
    while start_ms < span.end_ms:
        end_ms = min(span.end_ms, start_ms - start_ms % DAY_MS + DAY_MS)
        yield Span(start_ms, end_ms)
        start_ms = end_ms


def _monthly_pieces(
    series: Series, candidates: dict[str, list[Span]], published: PublishedFiles, policy: Policy
) -> dict[str, list[Span]]:
    """Return those months, with their missing pieces, that are fetched as monthly files."""
    found = {
        month: pieces
        for month, pieces in candidates.items()
        if not _is_edge(series, pieces, published)
    }
    missing = spans.union(piece for pieces in found.values() for piece in pieces)
    return found if policy.prefers_files(len(found), series, missing) else {}


def _is_edge(series: Series, pieces: list[Span], published: PublishedFiles) -> bool:
    """Return True if the pieces' daily files are published, and fewer bytes than the month."""
    days = [day for piece in pieces for day in days_of(piece)]
    if not has_daily(series) or len(days) > EDGE_DAYS:
        return False
    periods = [ArchiveFile.of(series, Source.DAILY, day.start_ms).period for day in days]
    return set(periods) <= set(published.daily(periods[0][: len("2024-01")]))


def _periods(published: PublishedFiles, source: Source, period: str) -> Collection[str]:
    """Return the published periods of a source in the month of `period`."""
    if source == Source.MONTHLY:
        return published.monthly()
    return published.daily(period[: len("2024-01")])


def _daily_windows(
    partition: Partition, pieces: list[Span], published: PublishedFiles, policy: Policy
) -> list[Window]:
    """Return the windows of a month that are fetched as daily files."""
    series = partition.series
    days = [day for piece in pieces for day in days_of(piece)]
    if not has_daily(series) or not policy.prefers_files(len(days), series, pieces):
        return []
    return published_parts(partition, pieces, Source.DAILY, published)


def _windows_of_files(partition: Partition, parts: list[Span], source: Source) -> Iterator[Window]:
    """Yield windows of neighbouring files, at most `FILES_PER_WINDOW` each.

    `parts` has what is wanted of each file, oldest first.
    """
    neighbours: list[Span] = []
    for part in parts:
        is_apart = neighbours and neighbours[-1].end_ms != part.start_ms
        if is_apart or len(neighbours) == FILES_PER_WINDOW[source]:
            yield Window(partition, _hull(neighbours), source)
            neighbours = []
        neighbours.append(part)
    if neighbours:
        yield Window(partition, _hull(neighbours), source)


def _missing_file(
    series: Series, policy: Policy, pieces: list[Span], now_ms: int
) -> tuple[str, str] | None:
    """Return the key of a month's missing file and the reason; None if none is expected."""
    ends_ms = next(bounds.end_ms for _, bounds in months_of(pieces[0]))
    if ends_ms > now_ms or not policy.prefers_files(1, series, pieces):
        return None
    file = ArchiveFile.of(series, Source.MONTHLY, pieces[0].start_ms)
    return file.key, "not published yet" if now_ms - ends_ms < LATE_MS else "absent"


def _replacement(daily_windows: int, has_rest: bool, policy: Policy) -> str:
    """Return what is used in place of a missing file, in words."""
    sources = ["daily files"] if daily_windows else []
    if has_rest:
        sources.append("REST" if policy.may_rest else "nothing")
    return f"{' and '.join(sources)} instead"


def _hull(pieces: list[Span]) -> Span:
    return Span(pieces[0].start_ms, pieces[-1].end_ms)

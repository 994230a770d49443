"""Doubts: time for which one answer is not enough, and who else is asked about it.

A minute (or a candle, or what else a row stands for) that is wanted is in one of these states:

unknown          No answer speaks of it. The planner has it fetched.
answered         A raw object speaks of it. Its partition is compacted once no window is pending.
disputed         Answers differ in its row. REST is asked, then the day's file. Then most voices
                 win, a sound row before a faulty one, and the run's report has every version.
odd              Its row has a faulty value: whoever else can be asked, is. What all say is kept,
                 and the footer says so.
held             The lake has its row. It stays, unless a run that revises brings a later answer.
absent by one    One witness says that there is no row, and nobody else could be asked. It is
                 covered; a later download asks again, if somebody can be asked by then.
absent           Two witnesses say so. It is covered, and never asked for again.
failed           An answer was wanted and did not come: the run records it and ends incomplete.

Who moves what: a window's fetch makes an answer of it, or records a failure; compaction alone asks
about doubts, settles them and publishes; footers alone say what is covered, by which answers, and
so what is absent by one. A witness is a source that was asked for the minute and whose silence says
something (`Source.is_witness`): each call of REST is one, and each archive file, in whichever
edition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from klinefleet.workers.binance.archive_names import has_daily
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Partition, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.lake.footers.answers import Answer, unconfirmed
from klinefleet.workers.lake.footers.proof import gaps_in
from klinefleet.workers.sources.choice import PublishedFiles, days_of, published_parts
from klinefleet.workers.sources.consensus import Resolution, SourceRows, resolve_conflicts
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.sources.windows import windows


def doubtful_spans(
    series: Series, versions: Sequence[SourceRows], resolution: Resolution
) -> list[Span]:
    """Return the time that was asked for and has no row or an odd one, oldest first."""
    asked = spans.union(version.span for version in versions)
    gaps = [gap for span in asked for gap in gaps_in(series, resolution.rows, span)]
    return spans.union([*gaps, *(oddity.span for oddity in resolution.oddities)])


def windows_for_witnesses(
    partition: Partition,
    doubtful: Iterable[Span],
    answers: Sequence[Answer],
    published: PublishedFiles,
    policy: Policy,
) -> list[Window]:
    """Return the windows that ask others about doubtful time which one witness alone speaks of.

    It is put to REST and to the archive: to the day's file, or else to the month's. Where only REST
    can be asked it is asked once more. `published` is used only if there is something to ask.
    """
    parts = unconfirmed(answers, doubtful)
    if not parts:
        return []

    def not_asked(source: Source) -> list[Span]:
        asked = (answer.span for answer in answers if answer.source == source)
        return spans.without(parts, asked)

    wanted = not_asked(Source.REST) if policy.may_rest else []
    files = list[Window]()
    if policy.may_use_files:
        series = partition.series
        if has_daily(series):
            days = not_asked(Source.DAILY)
            files += published_parts(partition, days, Source.DAILY, published)
        months = not_asked(Source.MONTHLY)
        if policy.may_rest:
            months = spans.both(months, not_asked(Source.DAILY))
        months = spans.without(months, (window.span for window in files))
        files += published_parts(partition, months, Source.MONTHLY, published)
    if policy.may_rest:
        asking = [*wanted, *(window.span for window in files)]
        again = spans.without(parts, asking)
        wanted = spans.union([*wanted, *again])
    return [*files, *windows(partition, _joined(partition.series, wanted))]


def windows_for_disputes(
    partition: Partition,
    versions: Sequence[SourceRows],
    held: pl.DataFrame,
    resolution: Resolution,
    policy: Policy,
) -> list[Window]:
    """Return the windows that settle which of differing rows is right, if REST may be asked.

    REST is asked for the rows on which files differ. If it then differs from a monthly file, the
    daily files are fetched for their vote. Where all versions of a row are faulty, and not alike,
    REST is asked once more.
    """
    if not policy.may_rest or not resolution.conflicts.height:
        return []
    series = partition.series
    disputed = _conflict_spans(series, resolution)
    odd = spans.both(disputed, (oddity.span for oddity in resolution.oddities))
    again = list(windows(partition, _joined(series, odd)))
    if not any(version.source.is_archive for version in versions):
        return again
    by_rest = [version.span for version in versions if version.source == Source.REST]
    if unanswered := spans.without(disputed, by_rest):
        return list(windows(partition, _joined(series, unanswered)))
    if not has_daily(series):
        return again
    if held.height:
        # What the lake alone has otherwise is settled by REST.
        resolution = resolve_conflicts(series, versions, no_rows(series.kind))
        disputed = _conflict_spans(series, resolution)
    by_daily = [version.span for version in versions if version.source == Source.DAILY]
    starts = {day.start_ms - day.start_ms % DAY_MS for span in disputed for day in days_of(span)}
    days = [Span(start, start + DAY_MS).clip(partition.span) for start in sorted(starts)]
    unread = [day for day in days if spans.gaps(by_daily, day)]
    return [*again, *(Window(partition, day, Source.DAILY) for day in unread)]


def _conflict_spans(series: Series, resolution: Resolution) -> list[Span]:
    """Return the time of the rows on which the versions differ, oldest first."""
    step_ms = series.kind.jitter_ms or series.interval.step_ms
    times = resolution.conflicts[series.kind.time_column].dt.timestamp("ms").unique()
    return spans.union(Span(at, at + step_ms) for at in times)


def _joined(series: Series, parts: Iterable[Span]) -> list[Span]:
    """Return the spans of `parts`, two of them as one where one call has room for both."""
    joined: list[Span] = []
    for part in parts:
        if joined and page_count(series, Span(joined[-1].start_ms, part.end_ms)) == 1:
            joined[-1] = Span(joined[-1].start_ms, part.end_ms)
        else:
            joined.append(part)
    return joined

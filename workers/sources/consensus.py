"""Reconciles rows from several sources: what to recheck, and which row wins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.binance.archive_names import has_daily
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Partition, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.lake.footers.proof import gaps_in
from klinefleet.workers.lake.partitions import merge, moments_of
from klinefleet.workers.sources.choice import days_of
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.sources.windows import windows

#: More than any rank: one vote more outweighs it.
_VOTE = 10


@dataclass(frozen=True, slots=True)
class SourceRows:
    """The rows that one source has of a span."""

    source: Source
    span: Span
    rows: pl.DataFrame
    asked_ms: int = 0
    """When it was asked, by the exchange's clock, ms UTC."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The rows that won, and every version of the rows on which sources differ."""

    rows: pl.DataFrame
    conflicts: pl.DataFrame
    """The lake's columns, before them `source` and whether the version `stands`."""


def missing_in(series: Series, version: SourceRows) -> list[Span]:
    """Return the parts of a version's span that lack a row, oldest first.

    A row that opened off its minute stands for that minute. Events have no calendar: they lack
    nothing.
    """
    return gaps_in(series, version.rows, version.span)


def windows_to_recheck(
    partition: Partition, versions: Sequence[SourceRows], held: pl.DataFrame, policy: Policy
) -> list[Window]:
    """Return the windows to fetch before the versions are trusted, if REST may be asked.

    REST is asked for gaps of archive files and for rows that differ, once. If it then differs from
    a monthly file, the daily files are fetched for their vote.
    """
    if not policy.may_rest or not any(version.source.is_archive for version in versions):
        return []
    series = partition.series
    by_rest = [version.span for version in versions if version.source == Source.REST]
    doubtful = [
        gap
        for version in versions
        if version.source.is_archive
        for gap in missing_in(series, version)
    ]
    doubtful += _conflict_spans(series, versions, held)
    unanswered = [gap for span in doubtful for gap in spans.gaps(by_rest, span)]
    recheck = list(windows(partition, _joined(series, spans.union(unanswered))))
    if recheck or not has_daily(series):
        return recheck
    by_daily = [version.span for version in versions if version.source == Source.DAILY]
    conflicts = _conflict_spans(series, versions, no_rows(series.kind))
    starts = {day.start_ms - day.start_ms % DAY_MS for span in conflicts for day in days_of(span)}
    days = [Span(start, start + DAY_MS).clip(partition.span) for start in sorted(starts)]
    return [Window(partition, day, Source.DAILY) for day in days if spans.gaps(by_daily, day)]


def resolve_conflicts(kind: Kind, versions: Sequence[SourceRows], held: pl.DataFrame) -> Resolution:
    """Return the rows that win: of each row the version that most sources have.

    Where votes are equal, the most trusted source wins. Of two answers of one source the one asked
    later counts, where both have a row. `held` are the lake's rows: they have no vote, so any
    source beats them.
    """
    ranked = sorted(versions, key=lambda version: (version.source.trust, version.asked_ms))
    rows = pl.concat([version.rows for version in ranked] or [no_rows(kind)])
    merged = merge(kind, no_rows(kind), rows)
    everything = pl.concat([held, rows]) if held.height else rows
    if moments_of(kind, everything).n_unique() == everything.height:
        return Resolution(merged, _no_conflicts(kind))
    differing = _differing(kind, ranked, held)
    if not differing.height:
        return Resolution(merged, _no_conflicts(kind))
    judged = _judged(kind, differing)
    winners = judged.filter("stands").select(kind.names)
    conflicts = judged.select("source", "stands", *kind.names)
    return Resolution(merge(kind, merged, winners), conflicts)


def trusted_spans(series: Series, versions: Sequence[SourceRows], policy: Policy) -> list[Span]:
    """Return the spans to mark covered: REST's, and archive files' without unconfirmed gaps.

    If REST has forgotten the symbol, no other source can confirm a gap: the files are trusted.
    """
    trusted = [version.span for version in versions if version.source == Source.REST]
    for version in versions:
        if version.source.is_archive:
            gaps = missing_in(series, version) if policy.is_listed else []
            trusted += spans.gaps(gaps, version.span)
    return spans.union(trusted)


def _differing(kind: Kind, ranked: Sequence[SourceRows], held: pl.DataFrame) -> pl.DataFrame:
    """Return every version of the rows whose values differ from source to source.

    Beside the rows: `source`, `_rank`, `_version` (later ones are higher) and `_moment`, which all
    versions of one row share. The lake has the lowest rank.
    """
    versions = [_tagged(kind, held, source="lake", rank=0, version=-1)]
    versions += [
        _tagged(kind, one.rows, source=str(one.source), rank=one.source.trust, version=number)
        for number, one in enumerate(ranked)
    ]
    repeated = pl.concat(versions).filter(pl.col("_moment").is_duplicated())
    is_conflict = pl.struct(kind.disputed).n_unique().over("_moment") > 1
    return repeated.filter(is_conflict)


def _judged(kind: Kind, differing: pl.DataFrame) -> pl.DataFrame:
    """Return the versions of differing rows with `stands`, sorted by time and rank.

    The value with most votes wins: a vote for each source that has it, the best rank where votes
    are equal. Where one source has two winning values, its later version wins; other versions with
    the same values stand with it.
    """
    values = pl.struct(kind.disputed)
    same_value = ("_moment", *kind.disputed)
    # An earlier answer of the same source has no vote.
    is_latest = pl.col("_version") == pl.col("_version").max().over("source", "_moment")
    has_vote = is_latest & (pl.col("_rank") > 0)
    votes = pl.col("source").filter(has_vote).n_unique().over(*same_value)
    best_rank = pl.col("_rank").filter(is_latest).max().fill_null(-1).over(*same_value)
    weighed = differing.with_columns(_weight=votes * _VOTE + best_rank)
    is_heaviest = pl.col("_weight") == pl.col("_weight").max().over("_moment")
    heaviest = weighed.with_columns(_heaviest=is_heaviest)
    last_version = pl.col("_version").filter("_heaviest").max().over("_moment")
    last_values = values.filter(pl.col("_version") == last_version).first().over("_moment")
    judged = heaviest.with_columns(stands=pl.col("_heaviest") & (values == last_values))
    return judged.sort("_moment", "_rank", "_version")


def _tagged(
    kind: Kind, rows: pl.DataFrame, *, source: str, rank: int, version: int
) -> pl.DataFrame:
    return rows.with_columns(
        source=pl.lit(str(source)),
        _rank=pl.lit(rank),
        _version=pl.lit(version),
        _moment=moments_of(kind, rows),
    )


def _no_conflicts(kind: Kind) -> pl.DataFrame:
    return pl.DataFrame(schema={"source": pl.String, "stands": pl.Boolean, **schema_of(kind)})


def _conflict_spans(
    series: Series, versions: Sequence[SourceRows], held: pl.DataFrame
) -> list[Span]:
    """Return the time of the rows on which the versions differ, oldest first."""
    conflicts = resolve_conflicts(series.kind, versions, held).conflicts
    step_ms = series.kind.jitter_ms or series.interval.step_ms
    times = conflicts[series.kind.time_column].dt.timestamp("ms").unique()
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

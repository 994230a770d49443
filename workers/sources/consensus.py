"""What several sources say of the same rows: whom to ask before it is believed, and what stands
where they disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.binance.archive_names import has_daily
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Block, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.lake.partitions import merge, moments_of
from klinefleet.workers.lake.proof import gaps_in
from klinefleet.workers.sources.choice import days_of
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.sources.windows import windows

#: Where votes are equal: REST is what the exchange says today; of known conflicts the daily files
#: agreed with it.
_RANK = {Source.MONTHLY: 1, Source.DAILY: 2, Source.REST: 3}


@dataclass(frozen=True, slots=True)
class SourceRows:
    """What one source says of a span."""

    source: Source
    span: Span
    rows: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Resolution:
    """The rows that stand, and where sources disagreed all that was said."""

    rows: pl.DataFrame
    disputed: pl.DataFrame
    """Every version of the disputed rows, with its `source` and whether it `stands`."""


def missing_in(series: Series, version: SourceRows) -> list[Span]:
    """Return the parts of a version's span in which the calendar has rows and it has none, oldest
    first.

    A row that opened off its minute stands for that minute.
    """
    return gaps_in(series, version.rows, version.span)


def windows_to_recheck(
    block: Block, versions: Sequence[SourceRows], held: pl.DataFrame, policy: Policy
) -> list[Window]:
    """Return what has to be asked before the versions are believed: nothing where REST may not be,
    or has been.

    Gaps of archive files are asked of REST; rows that differ too; and where REST and a monthly file
    differ, the daily files are asked for their vote.
    """
    if not policy.may_rest or not any(version.source.is_archive for version in versions):
        return []
    series = block.series
    answered = [version.span for version in versions if version.source is Source.REST]
    unsure = [
        gap
        for version in versions
        if version.source.is_archive
        for missed in missing_in(series, version)
        for gap in spans.gaps(answered, missed)
    ]
    disputed = _disputed_spans(series, versions, held)
    unsure += [gap for span in disputed for gap in spans.gaps(answered, span)]
    asked = list(windows(block, _joined(series, spans.union(unsure))))
    if asked or not has_daily(series):
        return asked
    voted = [version.span for version in versions if version.source is Source.DAILY]
    against_monthly = _disputed_spans(series, versions, no_rows(series.kind))
    days = {
        day.start_ms - day.start_ms % DAY_MS for span in against_monthly for day in days_of(span)
    }
    whole = [Span(day, day + DAY_MS).clip(block.span) for day in sorted(days)]
    return [Window(block, day, Source.DAILY) for day in whole if spans.gaps(voted, day)]


def resolve_conflicts(kind: Kind, versions: Sequence[SourceRows], held: pl.DataFrame) -> Resolution:
    """Return what stands: the row that most sources tell; REST, then daily, where votes are equal;
    `held` has none.
    """
    ranked = sorted(versions, key=lambda version: _RANK[version.source])
    said = [version.rows for version in ranked] or [no_rows(kind)]
    rows = pl.concat(said)
    everything = pl.concat([held, *said]) if held.height else rows
    times = moments_of(kind, everything)
    if times.n_unique() == everything.height:
        return Resolution(merge(kind, no_rows(kind), rows), _no_dispute(kind))
    tagged = pl.concat(
        [
            _tagged(kind, held, "lake", 0, -1),
            *(_tagged(kind, v.rows, v.source, _RANK[v.source], at) for at, v in enumerate(ranked)),
        ]
    ).filter(pl.col("_moment").is_duplicated())
    told = list(kind.disputed)
    counted = tagged.with_columns(
        _votes=pl.col("source").filter(pl.col("_rank") > 0).n_unique().over("_moment", *told),
        _best=pl.col("_rank").max().over("_moment", *told),
        _differ=pl.struct(told).n_unique().over("_moment") > 1,
    ).filter("_differ")
    if not counted.height:
        return Resolution(merge(kind, no_rows(kind), rows), _no_dispute(kind))
    # What only the lake holds has no vote and the lowest rank: it stands against nobody.
    weight = pl.col("_votes") * 10 + pl.col("_best")
    heaviest = counted.with_columns(_stands=weight == weight.max().over("_moment"))
    # Where one source says two things, the later of its versions stands, and all that say the same.
    later = pl.col("_at").filter("_stands").max().over("_moment")
    same = pl.struct(told) == pl.struct(told).filter(pl.col("_at") == later).first().over("_moment")
    disputed = heaviest.with_columns(stands=pl.col("_stands") & same).sort(
        "_moment", "_rank", "_at"
    )
    winners = disputed.filter("stands").select(kind.names)
    disputed = disputed.select("source", "stands", *kind.names)
    return Resolution(merge(kind, merge(kind, no_rows(kind), rows), winners), disputed)


def trusted_spans(series: Series, versions: Sequence[SourceRows], policy: Policy) -> list[Span]:
    """Return the time that is known for good: what REST answered, and of archive files all but
    unchecked gaps.

    Of a symbol that REST has forgotten nobody else tells: its files are believed as they are.
    """
    known = [version.span for version in versions if version.source is Source.REST]
    for version in versions:
        if version.source.is_archive:
            gaps = missing_in(series, version) if policy.is_listed else []
            known += spans.gaps(gaps, version.span)
    return spans.union(known)


def _tagged(kind: Kind, rows: pl.DataFrame, source: str, rank: int, at: int) -> pl.DataFrame:
    marks = {"source": pl.lit(str(source)), "_rank": pl.lit(rank), "_at": pl.lit(at)}
    return rows.with_columns(**marks, _moment=moments_of(kind, rows))


def _no_dispute(kind: Kind) -> pl.DataFrame:
    return pl.DataFrame(schema={"source": pl.String, "stands": pl.Boolean, **schema_of(kind)})


def _disputed_spans(
    series: Series, versions: Sequence[SourceRows], held: pl.DataFrame
) -> list[Span]:
    disputed = resolve_conflicts(series.kind, versions, held).disputed
    step_ms = series.kind.jitter_ms or series.interval.step_ms
    times = disputed[series.kind.time_column].dt.timestamp("ms").unique()
    return spans.union(Span(at, at + step_ms) for at in times)


def _joined(series: Series, several: Iterable[Span]) -> list[Span]:
    """Return spans that cover `several`, joined where one call brings two of them."""
    joined: list[Span] = []
    for span in several:
        if joined and page_count(series, Span(joined[-1].start_ms, span.end_ms)) == 1:
            joined[-1] = Span(joined[-1].start_ms, span.end_ms)
        else:
            joined.append(span)
    return joined

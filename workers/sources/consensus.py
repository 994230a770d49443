"""Reconciles rows from several sources: which row wins, and which winners are odd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.footers.oddities import Oddity, joined
from klinefleet.workers.lake.partitions import merge, moments_of
from klinefleet.workers.lake.row_checks import (
    faulty_times,
    is_faulty,
    row_span,
    with_times_in_ms,
)

#: More than any rank: one vote more outweighs it. More than any votes: a sound row outweighs them.
_VOTE, _SOUND = 10, 1_000


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
    oddities: list[Oddity]
    """The winning rows with a faulty value, and the sources that have them so."""
    conflicts: pl.DataFrame
    """The lake's columns, before them `source` and whether the version `stands`."""


def resolve_conflicts(
    series: Series, versions: Sequence[SourceRows], held: pl.DataFrame
) -> Resolution:
    """Return the rows that win: of each row the version that most sources have.

    A sound version wins over a faulty one. Where votes are equal, the most trusted source wins. Of
    two answers of one source the one asked later counts, where both have a row. `held` are the
    lake's rows: they have no vote, so any source beats them.
    """
    kind = series.kind
    ranked = sorted(versions, key=lambda version: (version.source.trust, version.asked_ms))
    rows = pl.concat([version.rows for version in ranked] or [no_rows(kind)])
    merged = merge(kind, no_rows(kind), rows)
    conflicts = _no_conflicts(kind)
    everything = pl.concat([held, rows]) if held.height else rows
    if moments_of(kind, everything).n_unique() < everything.height:
        differing = _differing(kind, ranked, held)
        if differing.height:
            judged = _judged(series, differing)
            merged = merge(kind, merged, judged.filter("stands").select(kind.names))
            conflicts = judged.select("source", "stands", *kind.names)
    return Resolution(merged, _oddities(series, merged, versions), conflicts)


def _oddities(series: Series, rows: pl.DataFrame, versions: Sequence[SourceRows]) -> list[Oddity]:
    """Return the rows with a faulty value, and the sources that have a row of their time."""
    time = series.kind.time_column
    return joined(
        Oddity(row_span(series, at), str(what), tuple(sorted(having)))
        for what, times in faulty_times(series, rows).items()
        for at, having in _sources_having(time, times, versions).items()
    )


def _sources_having(
    time: str, times: list[int], versions: Sequence[SourceRows]
) -> dict[int, set[str]]:
    """Return for each of the times (ms) the sources that have a row of it."""
    found: dict[int, set[str]] = {at: set() for at in times}
    wanted = pl.Series(times, dtype=pl.Int64)
    for version in versions:
        opened = version.rows[time].dt.timestamp("ms")
        for at in opened.filter(opened.is_in(wanted.implode())):
            found[at].add(str(version.source))
    return found


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


def _judged(series: Series, differing: pl.DataFrame) -> pl.DataFrame:
    """Return the versions of differing rows with `stands`, sorted by time and rank.

    Sound values win over faulty ones, then the value with most votes: a vote for each source that
    has it, the best rank where votes are equal. Where one source has two winning values, its later
    version wins; other versions with the same values stand with it.
    """
    kind = series.kind
    values = pl.struct(kind.disputed)
    same_value = ("_moment", *kind.disputed)
    is_sound = ~is_faulty(series, differing.schema)
    # An earlier answer of the same source has no vote.
    is_latest = pl.col("_version") == pl.col("_version").max().over("source", "_moment")
    has_vote = is_latest & (pl.col("_rank") > 0)
    votes = pl.col("source").filter(has_vote).n_unique().over(*same_value)
    best_rank = pl.col("_rank").filter(is_latest).max().fill_null(-1).over(*same_value)
    weight = votes * _VOTE + best_rank + is_sound * _SOUND
    weighed = with_times_in_ms(differing).with_columns(_weight=weight)
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

"""Oddities: rows with a value that is not as it should be, and that every source asked has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import polars as pl

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.row_checks import faulty_times, row_span


@dataclass(frozen=True, slots=True, order=True)
class Oddity:
    """Rows of a span that are kept with a faulty value, since the exchange has it so."""

    span: Span
    what: str
    """The fault, as `verify` names it."""
    sources: tuple[str, ...]
    """The names of the sources that have these rows so, sorted."""


def still_odd(series: Series, rows: pl.DataFrame, oddities: Iterable[Oddity]) -> list[Oddity]:
    """Return the oddities as far as the rows have them, each row with all its sources."""
    listed = set(oddities)
    if not listed:
        return []
    sources: dict[tuple[str, int], set[str]] = {}
    for what, times in faulty_times(series, rows).items():
        for oddity in (one for one in listed if one.what == what):
            for at in times:
                if oddity.span.start_ms <= at < oddity.span.end_ms:
                    sources.setdefault((what, at), set()).update(oddity.sources)
    return joined(
        Oddity(row_span(series, at), what, tuple(sorted(named)))
        for (what, at), named in sources.items()
    )


def joined(oddities: Iterable[Oddity]) -> list[Oddity]:
    """Return the same oddities, neighbours as one, oldest first."""
    parts: dict[Oddity, list[Span]] = {}
    for oddity in oddities:
        parts.setdefault(replace(oddity, span=_ANYWHERE), []).append(oddity.span)
    return sorted(
        replace(oddity, span=span) for oddity, found in parts.items() for span in spans.union(found)
    )


_ANYWHERE = Span(0, 0)

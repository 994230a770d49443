"""The coverage report as values: what is held of each series, each hole and its reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from klinefleet.tasks.coverage.holes import MissingSpan, Outage, Reason
from klinefleet.tasks.coverage.scan import Group
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS, iso


@dataclass(frozen=True)
class SeriesReport:
    """One series: what of the asked time is there, and every hole in the rest."""

    series: Series
    asked: Span
    life: Span | None
    """The part of all time in which it had candles; None: its listing is not known."""
    held: Span | None
    """From the first to the last that was asked for and answered, within `asked`."""
    rows: int
    wanted: int
    """Rows that the calendar has within `asked` and its life; of events, which have no calendar,
    milliseconds.
    """
    present: int
    """How many of them are there."""
    holes: list[MissingSpan]

    @property
    def share(self) -> float | None:
        """The part of the calendar's rows that is there, None where it has none."""
        return self.present / self.wanted if self.wanted else None

    @property
    def is_lacking(self) -> bool:
        """Whether something is missing that exists at the exchange, as far as is known."""
        return any(hole.reason.is_lack for hole in self.holes)

    @property
    def counts(self) -> Counter[Reason]:
        """How many holes there are of each reason."""
        return Counter(hole.reason for hole in self.holes)

    def missing(self, hole: MissingSpan) -> int | None:
        """Return how many candles a hole lacks, None of events."""
        interval = self.series.interval
        return interval.opens(hole.span.start_ms, hole.span.end_ms) if interval.is_grid else None


@dataclass(frozen=True)
class GroupReport:
    """The series of one market, kind and interval, sorted by symbol."""

    group: Group
    asked: Span
    catalog_ms: int | None
    """When the catalog was made that tells since when and until when symbols trade; None: there is
    none.
    """
    outages: list[Outage]
    series: list[SeriesReport]


@dataclass(frozen=True)
class CoverageReport:
    """All that was asked for."""

    store_url: str
    made_ms: int
    is_redis_asked: bool
    """Whether runs were asked; without, failures are those that reports in the store tell."""
    groups: list[GroupReport]

    @property
    def series(self) -> list[SeriesReport]:
        return [one for group in self.groups for one in group.series]

    @property
    def is_lacking(self) -> bool:
        """Whether something is missing anywhere that exists at the exchange, as far as is known."""
        return any(one.is_lacking for one in self.series)

    def facts(self) -> dict[str, Any]:
        """Return it as plain values, for --json; moments as text, UTC, ends exclusive."""
        return {
            "store": self.store_url,
            "made": iso(self.made_ms),
            "complete": not self.is_lacking,
            "runs_known": self.is_redis_asked,
            "groups": [
                {
                    **_names(of.group),
                    **_ends(of.asked),
                    "catalog": iso(of.catalog_ms) if of.catalog_ms is not None else None,
                    "series": len(of.series),
                    "outages": [
                        {**_ends(o.span), "missed": o.missed, "alive": o.alive} for o in of.outages
                    ],
                }
                for of in self.groups
            ],
            "series": [_series_facts(one) for one in self.series],
        }


def _series_facts(one: SeriesReport) -> dict[str, Any]:
    life = one.life
    return {
        **_names(Group.of(one.series)),
        "symbol": one.series.symbol,
        "asked": _ends(one.asked),
        "listed": iso(life.start_ms) if life else None,
        "ended": iso(life.end_ms) if life and life.end_ms < NEVER_MS else None,
        "is_listing_known": life is not None,
        "held": _ends(one.held) if one.held else None,
        "rows": one.rows,
        "share": None if one.share is None else round(one.share, 8),
        "complete": not one.is_lacking,
        "holes": [
            {
                **_ends(hole.span),
                "reason": str(hole.reason),
                "candles": one.missing(hole),
                "told": hole.told,
                "again": hole.again,
            }
            for hole in one.holes
        ],
    }


def _names(group: Group) -> dict[str, str]:
    return {"market": str(group.market), "kind": str(group.kind), "interval": str(group.interval)}


def _ends(span: Span) -> dict[str, str]:
    return {"start": iso(span.start_ms), "end": iso(span.end_ms)}

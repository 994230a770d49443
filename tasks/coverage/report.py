"""The coverage report as values: what is held of each series, and each hole with its reason."""

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
    """What is held of one series in the requested time, and the holes in it."""

    series: Series
    requested: Span
    trading: Span | None
    """The time in which it had candles; None if its listing date is unknown."""
    held: Span | None
    """From the start of the first to the end of the last covered span within `requested`."""
    rows: int
    expected: int
    """Rows that the calendar has while the series traded.

    Events have no calendar: then this and `present` are milliseconds.
    """
    present: int
    """How many of the expected rows are held."""
    holes: list[MissingSpan]

    @property
    def share(self) -> float | None:
        """The share of the expected rows that is held; None if none are expected."""
        return self.present / self.expected if self.expected else None

    @property
    def is_complete(self) -> bool:
        """True if nothing is missing that the exchange has, as far as is known."""
        return not any(hole.reason.is_fetchable for hole in self.holes)

    @property
    def counts(self) -> Counter[Reason]:
        """The number of holes by reason."""
        return Counter(hole.reason for hole in self.holes)

    def missing_rows(self, hole: MissingSpan) -> int | None:
        """Return how many candles a hole lacks; None of events."""
        interval = self.series.interval
        return interval.opens(hole.span.start_ms, hole.span.end_ms) if interval.is_grid else None


@dataclass(frozen=True)
class GroupReport:
    """The series of one market, kind and interval, sorted by symbol."""

    group: Group
    requested: Span
    catalog_ms: int | None
    """When the catalog with the listing dates was made; None if there is none."""
    outages: list[Outage]
    series: list[SeriesReport]


@dataclass(frozen=True)
class CoverageReport:
    """What is held of all that was requested."""

    store_url: str
    made_ms: int
    has_run_state: bool
    """False if Redis did not answer: failures are then those of the reports in the store."""
    groups: list[GroupReport]

    @property
    def series(self) -> list[SeriesReport]:
        return [series for group in self.groups for series in group.series]

    @property
    def is_complete(self) -> bool:
        """True if nothing is missing that the exchange has, as far as is known."""
        return all(series.is_complete for series in self.series)

    def facts(self) -> dict[str, Any]:
        """Return the report as plain values for --json: times are text, UTC; ends exclusive."""
        return {
            "store": self.store_url,
            "made": iso(self.made_ms),
            "complete": self.is_complete,
            "runs_known": self.has_run_state,
            "groups": [_group_facts(group) for group in self.groups],
            "series": [_series_facts(series) for series in self.series],
        }


def _group_facts(report: GroupReport) -> dict[str, Any]:
    return {
        **_group_names(report.group),
        **_bounds(report.requested),
        "catalog": iso(report.catalog_ms) if report.catalog_ms is not None else None,
        "series": len(report.series),
        "outages": [
            {**_bounds(outage.span), "missed": outage.missed, "alive": outage.alive}
            for outage in report.outages
        ],
    }


def _series_facts(report: SeriesReport) -> dict[str, Any]:
    trading = report.trading
    return {
        **_group_names(Group.from_series(report.series)),
        "symbol": report.series.symbol,
        "asked": _bounds(report.requested),
        "listed": iso(trading.start_ms) if trading else None,
        "ended": iso(trading.end_ms) if trading and trading.end_ms < NEVER_MS else None,
        "is_listing_known": trading is not None,
        "held": _bounds(report.held) if report.held else None,
        "rows": report.rows,
        "share": None if report.share is None else round(report.share, 8),
        "complete": report.is_complete,
        "holes": [
            {
                **_bounds(hole.span),
                "reason": str(hole.reason),
                "candles": report.missing_rows(hole),
                "told": hole.detail,
                "again": hole.next_step,
            }
            for hole in report.holes
        ],
    }


def _group_names(group: Group) -> dict[str, str]:
    return {"market": str(group.market), "kind": str(group.kind), "interval": str(group.interval)}


def _bounds(span: Span) -> dict[str, str]:
    return {"start": iso(span.start_ms), "end": iso(span.end_ms)}

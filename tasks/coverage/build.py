"""Builds the coverage report of a query: which series, in which time, with which holes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from redis import RedisError

from klinefleet.tasks.coverage.failures import RunNotes, load_run_notes
from klinefleet.tasks.coverage.holes import (
    MissingSpan,
    Outage,
    Reason,
    find_holes,
    find_outages,
    trading_span,
)
from klinefleet.tasks.coverage.report import CoverageReport, GroupReport, SeriesReport
from klinefleet.tasks.coverage.scan import CoverageScan, Group, ScannedSeries
from klinefleet.tasks.requests.build import FIRST_MS
from klinefleet.tasks.requests.request import closed_ms
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import RequestError, UnknownSymbol
from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS, iso
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.catalog import Catalog
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services

#: The next step of a damaged partition.
REPAIR = "run `klines verify --repair`"


@dataclass(frozen=True, slots=True)
class CoverageQuery:
    """What to report on. None, and no symbols, select all."""

    market: Market | None = None
    kind: Kind | None = None
    interval: Interval | None = None
    symbols: tuple[str, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def folder(self) -> str:
        """The folder of the lake that has all partitions of the query."""
        if self.market and self.kind and self.interval:
            return keys.group_folder("lake", self.market, self.kind, self.interval)
        return "lake" if self.market is None else f"lake/market={self.market}"

    @property
    def span(self) -> Span:
        """The time of the query; open ends reach as far as time goes."""
        return Span(self.start_ms or 0, NEVER_MS if self.end_ms is None else self.end_ms)

    @property
    def group_of_unheld(self) -> Group | None:
        """The group in which symbols that the lake does not hold are reported."""
        if self.market is None:
            return None
        kind = self.kind or DEFAULT_KIND
        default = Interval.M1 if kind.has_interval else Interval.EVENTS
        return Group(self.market, kind, self.interval or default)

    def matches(self, group: Group) -> bool:
        """Return True if the query selects series of this group."""
        return (
            self.market in (None, group.market)
            and self.kind in (None, group.kind)
            and self.interval in (None, group.interval)
        )


def coverage_report(
    services: Services,
    query: CoverageQuery,
    on_progress: Callable[[str], None] = lambda text: None,
    *,
    now_ms: int,
) -> CoverageReport:
    """Return the report of what the lake holds and lacks.

    `on_progress` gets a line for each slow step. RequestError if the query selects nothing;
    StoreFault if the store fails.
    """
    scan = CoverageScan(services.coverage, query.folder, on_progress)
    chosen = _choose_series(scan, query)
    notes, has_run_state = _load_notes(services)
    builder = _Builder(services, query, scan, notes, now_ms, on_progress)
    groups = [builder.report(group, sorted(chosen[group])) for group in sorted(chosen)]
    return CoverageReport(services.settings.store_url, now_ms, has_run_state, groups)


def _choose_series(scan: CoverageScan, query: CoverageQuery) -> dict[Group, set[Series]]:
    """Return the series to report on, by group: those held, and symbols that are named."""
    chosen: dict[Group, set[Series]] = {}
    for series in scan.series:
        group = Group.from_series(series)
        if query.matches(group) and (not query.symbols or series.symbol in query.symbols):
            chosen.setdefault(group, set()).add(series)
    held = {series.symbol for several in chosen.values() for series in several}
    if unheld := [symbol for symbol in query.symbols if symbol not in held]:
        group_of_unheld = query.group_of_unheld
        if group_of_unheld is None:
            raise UnknownSymbol(
                f"the lake holds nothing of {', '.join(unheld)}; use --market to name its market"
            )
        missing = {group_of_unheld.series(symbol) for symbol in unheld}
        chosen.setdefault(group_of_unheld, set()).update(missing)
    if not chosen:
        raise RequestError(
            "the lake holds nothing of this; use --symbols to report what symbols lack"
        )
    return chosen


def _load_notes(services: Services) -> tuple[RunNotes, bool]:
    """Return what runs know of missing time, and whether Redis answered."""
    if services.settings.redis_url:
        try:
            return load_run_notes(Runs(services.redis), services.store), True
        except RedisError:
            pass
    return load_run_notes(None, services.store), False


@dataclass(frozen=True)
class _ScannedGroup:
    """What is known of a group's series before their holes are found."""

    group: Group
    catalog: Catalog | None
    series: dict[Series, ScannedSeries]
    trading: dict[Series, Span]
    """The trading span of each series."""

    def is_listing_known(self, series: Series) -> bool:
        return self.catalog is not None and self.catalog.trading_span(series) is not None


@dataclass(frozen=True)
class _Builder:
    """Builds the reports of a query's groups."""

    services: Services
    query: CoverageQuery
    scan: CoverageScan
    notes: RunNotes
    now_ms: int
    on_progress: Callable[[str], None]

    def report(self, group: Group, chosen: list[Series]) -> GroupReport:
        """Return the report of some of a group's series, sorted by symbol."""
        scanned = self._scan_group(group, chosen)
        requested = self._requested_span(scanned)
        self.on_progress(f"{group}: {len(chosen):,} series, {requested}")
        outages = self._find_outages(scanned, requested)
        raw_zone = self.services.raw_zone
        raw = raw_zone.entries_of_group(group.market, group.kind, group.interval)
        reports = []
        for series in scanned.series:
            notes = self._collect_notes(scanned, series, raw.get(series.symbol, []))
            held, trading = scanned.series[series].held, scanned.trading[series]
            holes = find_holes(series, requested, held, trading, outages, notes)
            reports.append(self._series_report(scanned, series, requested, holes))
        catalog_ms = scanned.catalog.made_ms if scanned.catalog else None
        return GroupReport(group, requested, catalog_ms, outages, reports)

    def _scan_group(self, group: Group, chosen: list[Series]) -> _ScannedGroup:
        catalog = self.services.catalogs.newest(group.market)
        _check_known(chosen, self.scan, catalog)
        series = self.scan.read(chosen, [self.query.span])
        return _ScannedGroup(group, catalog, series, _trading_spans(series, catalog))

    def _requested_span(self, scanned: _ScannedGroup) -> Span:
        """Return the time that the group's series are compared with, on open times.

        An end that the query does not give is that of what any of them holds, or a run requested.
        RequestError if no candle has closed in it.
        """
        group = scanned.group
        known = spans.union(
            span
            for series, one in scanned.series.items()
            for span in (*one.held.covered, *self.notes.requested_spans(series))
        )
        # How much of its period a damaged partition held is unknown. As much as is known of the
        # other series, or else all of it.
        damaged = (lost.span for one in scanned.series.values() for lost in one.damaged)
        known = spans.union([*known, *(span for span in damaged if not spans.clip(known, span))])
        last_ms = closed_ms(group.kind, group.interval, self.now_ms)
        start_ms, end_ms = (known[0].start_ms, known[-1].end_ms) if known else (FIRST_MS, last_ms)
        start_ms = start_ms if self.query.start_ms is None else self.query.start_ms
        end_ms = end_ms if self.query.end_ms is None else self.query.end_ms
        ceil = group.interval.ceil
        requested = Span(ceil(max(start_ms, FIRST_MS)), min(ceil(end_ms), last_ms))
        if requested.is_empty:
            raise RequestError(
                f"{group}: no candle has closed between {iso(start_ms)} and {iso(end_ms)}"
            )
        return requested

    def _find_outages(self, scanned: _ScannedGroup, requested: Span) -> list[Outage]:
        """Return the exchange's outages in the gaps of the group's chosen series.

        Its other series are read too, but only in the months of these gaps.
        """
        gaps = spans.union(
            gap
            for series, one in scanned.series.items()
            for gap in spans.clip(one.held.gaps, scanned.trading[series].clip(requested))
        )
        if not gaps:
            return []
        months = spans.union(month for gap in gaps for _, month in months_of(gap))
        others = [
            series
            for series in self.scan.series
            if Group.from_series(series) == scanned.group and series not in scanned.series
        ]
        compared = [(one.held, scanned.trading[series]) for series, one in scanned.series.items()]
        if others:
            read = self.scan.read(others, months)
            trading = _trading_spans(read, scanned.catalog)
            compared += [(one.held, trading[series]) for series, one in read.items()]
        return [
            replace(outage, span=span)
            for outage in find_outages(compared)
            for span in spans.clip([outage.span], requested)
        ]

    def _collect_notes(
        self, scanned: _ScannedGroup, series: Series, raw: Iterable[RawEntry]
    ) -> list[MissingSpan]:
        """Return what is known of a series' time that is not held; the first counts."""
        one = scanned.series[series]
        notes = [
            MissingSpan(partition.span, Reason.DAMAGED, error, REPAIR)
            for partition, error in one.damaged.items()
        ]
        notes += self.notes.missing_spans(series, raw, now_ms=self.now_ms)
        if one.held.covered and not scanned.is_listing_known(series):
            before = Span(0, one.held.covered[0].start_ms)
            detail = "or not listed yet: the listing date is unknown"
            notes.append(MissingSpan(before, Reason.NOT_FETCHED, detail))
        return notes

    def _series_report(
        self, scanned: _ScannedGroup, series: Series, requested: Span, holes: list[MissingSpan]
    ) -> SeriesReport:
        one, trading = scanned.series[series], scanned.trading[series]
        traded = requested.clip(trading)
        covered = spans.clip(one.held.covered, requested)
        return SeriesReport(
            series=series,
            requested=requested,
            trading=trading if scanned.is_listing_known(series) else None,
            held=Span(covered[0].start_ms, covered[-1].end_ms) if covered else None,
            rows=self.scan.count_rows(series, one, requested),
            expected=_measure(series, [] if traded.is_empty else [traded]),
            present=_measure(series, spans.clip(one.held.present, traded)),
            holes=holes,
        )


def _check_known(chosen: Collection[Series], scan: CoverageScan, catalog: Catalog | None) -> None:
    """Raise UnknownSymbol for a symbol that is neither in the lake nor in the catalog."""
    held = set(scan.series)
    for series in chosen:
        if catalog and series not in held and catalog.trading_span(series) is None:
            raise UnknownSymbol(
                f"no {series.kind} of {series.symbol}: neither in the lake nor in the catalog of "
                f"{series.market} of {iso(catalog.made_ms)}"
            )


def _trading_spans(
    series: Mapping[Series, ScannedSeries], catalog: Catalog | None
) -> dict[Series, Span]:
    return {
        one: trading_span(scanned.held, catalog.trading_span(one) if catalog else None)
        for one, scanned in series.items()
    }


def _measure(series: Series, parts: Iterable[Span]) -> int:
    """Return how many rows the calendar has in `parts`; of events, milliseconds."""
    if not series.interval.is_grid:
        return sum(part.end_ms - part.start_ms for part in parts)
    return sum(series.interval.opens(part.start_ms, part.end_ms) for part in parts)

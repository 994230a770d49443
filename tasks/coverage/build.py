"""What is held of what is asked for: a query, and the report that answers it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from redis import RedisError

from klinefleet.tasks.coverage.failures import RunNotes, load_run_notes
from klinefleet.tasks.coverage.holes import MissingSpan, Outage, Reason, holes, lived, outages
from klinefleet.tasks.coverage.report import CoverageReport, GroupReport, SeriesReport
from klinefleet.tasks.coverage.scan import CoverageScan, Group, ScannedSeries
from klinefleet.tasks.requests.build import FIRST_MS
from klinefleet.tasks.requests.request import closed_ms
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import RequestError, UnknownSymbol
from klinefleet.workers.domain.intervals import Interval, month_span, months_of
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import NEVER_MS, iso
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.catalog import Catalog
from klinefleet.workers.services import Services

#: How a damaged partition is fetched again.
MENDED = "with `klines verify --repair`"


@dataclass(frozen=True, slots=True)
class CoverageQuery:
    """What is asked for; what is None is not narrowed."""

    market: Market | None = None
    kind: Kind | None = None
    interval: Interval | None = None
    symbols: tuple[str, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def folder(self) -> str:
        """The folder of the lake that all of it lies in."""
        if self.market and self.kind and self.interval:
            return keys.group_folder("lake", self.market, self.kind, self.interval)
        return "lake" if self.market is None else f"lake/market={self.market}"

    def takes(self, group: Group) -> bool:
        """Return whether series of this group are asked for."""
        return all(
            wanted in (None, of_group)
            for wanted, of_group in (
                (self.market, group.market), (self.kind, group.kind), (self.interval, group.interval)
            )
        )  # fmt: skip

    @property
    def named(self) -> Group | None:
        """The group that symbols are looked for in though the lake holds nothing of them."""
        if self.market is None:
            return None
        kind = self.kind or DEFAULT_KIND
        return Group(
            self.market,
            kind,
            self.interval or (Interval.M1 if kind.has_interval else Interval.EVENTS),
        )


def coverage_report(
    services: Services,
    query: CoverageQuery,
    say: Callable[[str], None] = lambda text: None,
    *,
    now_ms: int,
) -> CoverageReport:
    """Return what is held of what is wished for; RequestError where that is nothing. StoreFault."""
    survey = CoverageScan(services.coverage, query.folder, say)
    chosen = _chosen(survey, query)
    noted, is_redis_asked = _noted(services)
    groups = [
        _group_report(services, survey, group, sorted(chosen[group]), query, noted, say, now_ms)
        for group in sorted(chosen)
    ]
    return CoverageReport(services.settings.store_url, now_ms, is_redis_asked, groups)


def _chosen(survey: CoverageScan, query: CoverageQuery) -> dict[Group, set[Series]]:
    chosen: dict[Group, set[Series]] = {}
    for series in survey.series:
        if query.takes(Group.of(series)) and (not query.symbols or series.symbol in query.symbols):
            chosen.setdefault(Group.of(series), set()).add(series)
    found = {series.symbol for of_group in chosen.values() for series in of_group}
    if left := [symbol for symbol in query.symbols if symbol not in found]:
        if query.named is None:
            raise UnknownSymbol(
                f"the lake holds nothing of {', '.join(left)}; say of which --market it is"
            )
        chosen.setdefault(query.named, set()).update(query.named.series(symbol) for symbol in left)
    if not chosen:
        raise RequestError(
            "the lake holds nothing of what was asked for; name --symbols to be told what is "
            "missing"
        )
    return chosen


def _noted(services: Services) -> tuple[RunNotes, bool]:
    """Return what runs have noted, and whether a Redis told it."""
    if services.settings.redis_url:
        try:
            return load_run_notes(Runs(services.redis), services.store), True
        except RedisError:
            pass
    return load_run_notes(None, services.store), False


def _group_report(
    services: Services,
    survey: CoverageScan,
    group: Group,
    chosen: list[Series],
    query: CoverageQuery,
    noted: RunNotes,
    say: Callable[[str], None],
    now_ms: int,
) -> GroupReport:
    catalog = services.catalogs.newest(group.market)
    _check_known(chosen, survey, catalog)
    if query.start_ms is None and query.end_ms is None:
        within = Span(0, NEVER_MS)
    else:
        within = Span(query.start_ms or 0, NEVER_MS if query.end_ms is None else query.end_ms)
    found = survey.look(chosen, [within])
    lives = {
        series: lived(of.held, catalog.life(series) if catalog else None)
        for series, of in found.items()
    }
    asked = _asked(group, found, query, noted, now_ms)
    say(f"{group}: {len(chosen):,} series, {asked}")
    shared = _outages(survey, group, found, lives, catalog, asked)
    raw = services.raw_zone.entries_of_group(group.market, group.kind, group.interval)
    reports = []
    for series, of in found.items():
        notes = [
            MissingSpan(month_span(month), Reason.DAMAGED, told, MENDED)
            for month, told in of.damaged.items()
        ]
        notes += noted.of(series, raw.get(series.symbol, []), now_ms=now_ms)
        is_known = catalog is not None and catalog.life(series) is not None
        if not is_known and of.held.covered:
            before = Span(0, of.held.covered[0].start_ms)
            notes.append(
                MissingSpan(
                    before, Reason.NOT_FETCHED, "or before its listing, whose date is not known"
                )
            )
        every = holes(series, asked, of.held, lives[series], shared, notes)
        reports.append(_series_report(survey, series, of, asked, lives[series], is_known, every))
    return GroupReport(group, asked, catalog.made_ms if catalog else None, shared, reports)


def _check_known(chosen: Collection[Series], survey: CoverageScan, catalog: Catalog | None) -> None:
    """Raise UnknownSymbol for a symbol that neither lake nor catalog knows."""
    held = set(survey.series)
    for series in chosen:
        if catalog and series not in held and catalog.life(series) is None:
            raise UnknownSymbol(
                f"no {series.kind} of {series.symbol}: the lake holds none, and the catalog of "
                f"{series.market} of "
                f"{iso(catalog.made_ms)} does not know it"
            )


def _asked(
    group: Group,
    found: dict[Series, ScannedSeries],
    query: CoverageQuery,
    noted: RunNotes,
    now_ms: int,
) -> Span:
    """Return the time that all series of the group are held against, on open times.

    Where the user gave no start or end: from the first to the last that any of them holds, or that
    a run asked for.
    """
    known = spans.union(
        span for series, of in found.items() for span in (*of.held.covered, *noted.times(series))
    )
    # How much of its month a damaged partition held is not known: as much as the others, or all of
    # it.
    damaged = (month_span(month) for of in found.values() for month in of.damaged)
    known = spans.union([*known, *(month for month in damaged if not spans.clip(known, month))])
    ends_ms = closed_ms(group.kind, group.interval, now_ms)
    first_ms, last_ms = (known[0].start_ms, known[-1].end_ms) if known else (FIRST_MS, ends_ms)
    start_ms = first_ms if query.start_ms is None else query.start_ms
    end_ms = last_ms if query.end_ms is None else query.end_ms
    asked = Span(
        group.interval.ceil(max(start_ms, FIRST_MS)), min(group.interval.ceil(end_ms), ends_ms)
    )
    if asked.is_empty:
        raise RequestError(
            f"{group}: no time between {iso(start_ms)} and {iso(end_ms)} in which candles are "
            "closed"
        )
    return asked


def _outages(
    survey: CoverageScan,
    group: Group,
    found: dict[Series, ScannedSeries],
    lives: dict[Series, Span],
    catalog: Catalog | None,
    asked: Span,
) -> list[Outage]:
    """Return the exchange's outages in the gaps of the series; the others of the group are looked
    at for those only.
    """
    gaps = spans.union(
        gap
        for series, of in found.items()
        for gap in spans.clip(of.held.gaps, lives[series].clip(asked))
    )
    if not gaps:
        return []
    months = spans.union(month for gap in gaps for _, month in months_of(gap))
    others = [
        series for series in survey.series if Group.of(series) == group and series not in found
    ]
    beside = survey.look(others, months) if others else {}
    compared = [(of.held, lives[series]) for series, of in found.items()]
    compared += [
        (of.held, lived(of.held, catalog.life(one) if catalog else None))
        for one, of in beside.items()
    ]
    return [
        Outage(span, outage.missed, outage.alive)
        for outage in outages(compared)
        for span in spans.clip([outage.span], asked)
    ]


def _series_report(
    survey: CoverageScan,
    series: Series,
    of: ScannedSeries,
    asked: Span,
    life: Span,
    is_known: bool,
    every: list[MissingSpan],
) -> SeriesReport:
    within = asked.clip(life)
    covered, present = spans.clip(of.held.covered, asked), spans.clip(of.held.present, within)

    def measure(parts: Iterator[Span]) -> int:
        grid = series.interval.is_grid
        return sum(
            series.interval.opens(p.start_ms, p.end_ms) if grid else p.end_ms - p.start_ms
            for p in parts
        )

    return SeriesReport(
        series,
        asked,
        life if is_known else None,
        Span(covered[0].start_ms, covered[-1].end_ms) if covered else None,
        survey.rows(series, of, asked),
        measure(iter([] if within.is_empty else [within])),
        measure(iter(present)),
        every,
    )

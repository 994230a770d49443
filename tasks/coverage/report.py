"""What is held of which series and what is not, with the reason for every hole: put together from lake and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from redis import RedisError

from klinefleet.tasks.coverage.failures import RunNotes, load_run_notes
from klinefleet.tasks.coverage.holes import MissingSpan, Outage, Reason, holes, lived, outages
from klinefleet.tasks.coverage.scan import CoverageScan, Group, ScannedSeries
from klinefleet.tasks.requests.build import FIRST_MS
from klinefleet.tasks.requests.request import closed_ms
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import RequestError, UnknownSymbol
from klinefleet.workers.domain.intervals import Interval, month_span, months_of
from klinefleet.workers.domain.series import Kind, Market, Series
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
        kind = self.kind or Kind.KLINES
        return Group(self.market, kind, self.interval or (Interval.EVENTS if kind is Kind.FUNDING else Interval.M1))


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
    """Rows that the calendar has within `asked` and its life; of events, which have no calendar, milliseconds."""
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
    """When the catalog was made that tells since when and until when symbols trade; None: there is none."""
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
                    "outages": [{**_ends(o.span), "missed": o.missed, "alive": o.alive} for o in of.outages],
                }
                for of in self.groups
            ],
            "series": [_series_facts(one) for one in self.series],
        }


def coverage_report(
    services: Services, query: CoverageQuery, say: Callable[[str], None] = lambda text: None, *, now_ms: int
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
            raise UnknownSymbol(f"the lake holds nothing of {', '.join(left)}; say of which --market it is")
        chosen.setdefault(query.named, set()).update(query.named.series(symbol) for symbol in left)
    if not chosen:
        raise RequestError("the lake holds nothing of what was asked for; name --symbols to be told what is missing")
    return chosen


def _noted(services: Services) -> tuple[RunNotes, bool]:
    """Return what runs have noted, and whether a Redis told it."""
    if services.settings.redis_url:
        try:
            return load_run_notes(Runs(services.redis), services.files), True
        except RedisError:
            pass
    return load_run_notes(None, services.files), False


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
    lives = {series: lived(of.held, catalog.life(series) if catalog else None) for series, of in found.items()}
    asked = _asked(group, found, query, noted, now_ms)
    say(f"{group}: {len(chosen):,} series, {asked}")
    shared = _outages(survey, group, found, lives, catalog, asked)
    raw = services.raw.entries_of_group(group.market, group.kind, group.interval)
    reports = []
    for series, of in found.items():
        notes = [MissingSpan(month_span(month), Reason.DAMAGED, told, MENDED) for month, told in of.damaged.items()]
        notes += noted.of(series, raw.get(series.symbol, []), now_ms=now_ms)
        is_known = catalog is not None and catalog.life(series) is not None
        if not is_known and of.held.covered:
            before = Span(0, of.held.covered[0].start_ms)
            notes.append(MissingSpan(before, Reason.NOT_FETCHED, "or before its listing, whose date is not known"))
        every = holes(series, asked, of.held, lives[series], shared, notes)
        reports.append(_series_report(survey, series, of, asked, lives[series], is_known, every))
    return GroupReport(group, asked, catalog.made_ms if catalog else None, shared, reports)


def _check_known(chosen: Collection[Series], survey: CoverageScan, catalog: Catalog | None) -> None:
    """Raise UnknownSymbol for a symbol that neither lake nor catalog knows."""
    held = set(survey.series)
    for series in chosen:
        if catalog and series not in held and catalog.life(series) is None:
            raise UnknownSymbol(
                f"no {series.kind} of {series.symbol}: the lake holds none, and the catalog of {series.market} of "
                f"{iso(catalog.made_ms)} does not know it"
            )


def _asked(
    group: Group, found: dict[Series, ScannedSeries], query: CoverageQuery, noted: RunNotes, now_ms: int
) -> Span:
    """Return the time that all series of the group are held against, on open times.

    Where the user gave no start or end: from the first to the last that any of them holds, or that a run asked for.
    """
    known = spans.union(span for series, of in found.items() for span in (*of.held.covered, *noted.times(series)))
    # How much of its month a damaged partition held is not known: as much as the others, or all of it.
    damaged = (month_span(month) for of in found.values() for month in of.damaged)
    known = spans.union([*known, *(month for month in damaged if not spans.clip(known, month))])
    ends_ms = closed_ms(group.interval, now_ms)
    first_ms, last_ms = (known[0].start_ms, known[-1].end_ms) if known else (FIRST_MS, ends_ms)
    start_ms = first_ms if query.start_ms is None else query.start_ms
    end_ms = last_ms if query.end_ms is None else query.end_ms
    asked = Span(group.interval.ceil(max(start_ms, FIRST_MS)), min(group.interval.ceil(end_ms), ends_ms))
    if asked.is_empty:
        raise RequestError(f"{group}: no time between {iso(start_ms)} and {iso(end_ms)} in which candles are closed")
    return asked


def _outages(
    survey: CoverageScan,
    group: Group,
    found: dict[Series, ScannedSeries],
    lives: dict[Series, Span],
    catalog: Catalog | None,
    asked: Span,
) -> list[Outage]:
    """Return the exchange's outages in the gaps of the series; the others of the group are looked at for those only."""
    gaps = spans.union(
        gap for series, of in found.items() for gap in spans.clip(of.held.gaps, lives[series].clip(asked))
    )
    if not gaps:
        return []
    months = spans.union(month for gap in gaps for _, month in months_of(gap))
    others = [series for series in survey.series if Group.of(series) == group and series not in found]
    beside = survey.look(others, months) if others else {}
    compared = [(of.held, lives[series]) for series, of in found.items()]
    compared += [(of.held, lived(of.held, catalog.life(one) if catalog else None)) for one, of in beside.items()]
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
        return sum(series.interval.opens(p.start_ms, p.end_ms) if grid else p.end_ms - p.start_ms for p in parts)

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

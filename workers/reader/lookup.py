"""Which parts of a requested range the lake holds, which it lacks, and where the rows come from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import RangeNotHeld, RequestError, UnknownSymbol
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source, missing
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.catalog import Catalog, Catalogs
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.answers import UNRECORDED
from klinefleet.workers.lake.footers.footer import Footer
from klinefleet.workers.reader.partition_reader import PartitionReader, PartitionSet
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from klinefleet.workers.support.threads import Threads

#: Series that are looked up at the same time.
_LOOKUP_THREADS = 16
#: Series, and missing spans of each, that an error message names; the others are counted.
_MAX_NAMED = 3
#: Footers that one reader keeps in memory.
_MAX_FOOTERS = 20_000

CACHE, LAKE, FETCHED = "cache", "lake", "fetched"


class Fetcher(Protocol):
    """Fetches missing spans into the lake, by a fleet of workers."""

    def trading_span(self, series: Series) -> Span:
        """Return the span in which the series can have closed candles, from the exchange."""
        ...

    def fetch(self, wanted: Mapping[Series, list[Span]]) -> None:
        """Return when the lake holds all of it; FleetError if some of it could not be fetched."""
        ...


@dataclass(frozen=True, slots=True)
class RequestedRange:
    """The time [start_ms, end_ms) that was requested, ms UTC, but nothing after `now_ms`.

    None: from the first row that there is, or to the last.
    """

    start_ms: int | None
    end_ms: int | None
    now_ms: int

    @property
    def widest(self) -> Span:
        """The longest span that it can mean."""
        return self.within(Span(0, self.now_ms))

    def within(self, available: Span) -> Span:
        """Return the requested span; an open start or end is that of `available`."""
        start_ms = available.start_ms if self.start_ms is None else self.start_ms
        end_ms = available.end_ms if self.end_ms is None else min(self.end_ms, self.now_ms)
        return Span(start_ms, end_ms)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the rows of a span come from.

    `held` is `cache`, `lake`, or `fetched` if this call has fetched them. `source` is `monthly`,
    `daily` or `rest`; None if the partition does not record it.
    """

    symbol: str
    span: Span
    held: str
    source: Source | None

    def __str__(self) -> str:
        source = f" ({self.source})" if self.source else ""
        return f"{self.symbol} {self.span}: {self.held}{source}"


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """The partitions to read of one series, and the spans that they hold."""

    partitions: PartitionSet
    held: tuple[Span, ...]
    fetched: tuple[Span, ...] = ()
    """The spans that were missing, and were fetched for this plan."""

    @property
    def series(self) -> Series:
        return self.partitions.series

    @property
    def span(self) -> Span:
        return self.partitions.span

    def missing_in(self, span: Span) -> list[Span]:
        """Return the parts of `span` that are not held, oldest first."""
        return missing(self.series, self.held, span)


class Lookup:
    """Finds what the lake holds of some series, and has `fetcher` fetch the rest on request."""

    def __init__(
        self,
        files: ObjectStore,
        partitions: PartitionReader,
        coverage: Coverage,
        catalogs: Catalogs,
        fetcher: Fetcher | None,
    ) -> None:
        self._files = files
        self._partitions = partitions
        self._coverage = coverage
        self._catalogs = catalogs
        self._fetcher = fetcher
        self._footers: dict[str, tuple[str, Footer]] = {}
        """The ETag and the footer of each partition, by key."""
        self._catalog_by_market: dict[Market, Catalog | None] = {}
        """Loaded once for each call of `find` or `fetch`, however many symbols it has."""

    def find(
        self, all_series: Sequence[Series], requested: RequestedRange, *, partial: bool
    ) -> list[SeriesPlan]:
        """Return what the lake holds of some series.

        UnknownSymbol if neither catalog nor lake has a symbol. RangeNotHeld if some of the range is
        missing, unless `partial`.
        """
        self._catalog_by_market = {}
        plans = self._plans(all_series, requested)
        missing_by_series = {plan.series: self._missing_while_trading(plan) for plan in plans}
        if not partial:
            _check_complete(missing_by_series)
        return plans

    def fetch(
        self, all_series: Sequence[Series], requested: RequestedRange, *, partial: bool
    ) -> list[SeriesPlan]:
        """Return what the lake holds of some series, after the fleet has fetched what was missing.

        RangeNotHeld if some of it is still missing, unless `partial`.
        """
        if self._fetcher is None:
            raise RequestError(
                "fetch=True needs a reader with a fleet: use klinefleet.tasks.notebook.reader(); "
                "nothing was read"
            )
        self._catalog_by_market = {}
        trading = {series: self._fetcher.trading_span(series) for series in all_series}
        wanted = {series: requested.within(span).clip(span) for series, span in trading.items()}
        plans = {series: self._plan(series, span) for series, span in wanted.items()}
        to_fetch = {
            series: gaps for series, plan in plans.items() if (gaps := plan.missing_in(plan.span))
        }
        if to_fetch:
            self._fetcher.fetch(to_fetch)
            plans |= {
                series: replace(self._plan(series, wanted[series]), fetched=tuple(gaps))
                for series, gaps in to_fetch.items()
            }
        if not partial:
            _check_complete({series: plan.missing_in(plan.span) for series, plan in plans.items()})
        return list(plans.values())

    def trading_span(self, series: Series) -> Span | None:
        """Return the span in which the series can have candles; None if no catalog dates it."""
        if not series.kind.is_dated_by_catalog:
            return None
        if series.market not in self._catalog_by_market:
            self._catalog_by_market[series.market] = self._catalogs.newest(series.market)
        catalog = self._catalog_by_market[series.market]
        entry = catalog.get(series.symbol) if catalog else None
        return entry.trading_span if entry else None

    def provenance(self, plan: SeriesPlan) -> Iterator[Provenance]:
        """Yield where the rows of a plan come from, oldest first."""
        partitions = plan.partitions
        for entry in partitions.entries:
            held = CACHE if self._partitions.is_cached(entry) else LAKE
            for span, source in _sources(partitions.footers[entry.key], partitions.span):
                was_fetched = any(not span.clip(fetched).is_empty for fetched in plan.fetched)
                yield Provenance(plan.series.symbol, span, FETCHED if was_fetched else held, source)

    def _plans(self, all_series: Sequence[Series], requested: RequestedRange) -> list[SeriesPlan]:
        if len(all_series) == 1:
            return [self._plan(all_series[0], requested)]
        with Threads(_LOOKUP_THREADS, thread_name_prefix="lookup") as threads:
            return list(threads.map(lambda series: self._plan(series, requested), all_series))

    def _plan(self, series: Series, requested: RequestedRange | Span) -> SeriesPlan:
        """Return what is held of a range. Its open ends become those of what is held."""
        span = requested if isinstance(requested, Span) else requested.widest
        partitions = self._partitions.list(series, span)
        footers = self._footers_by_key(partitions)
        covered = spans.union(part for footer in footers.values() for part in footer.covered)
        held = spans.clip(covered, span)
        if held and isinstance(requested, RequestedRange):
            span = requested.within(_hull(held))
        row_bounds = _hull(covered) if covered else None
        return SeriesPlan(
            PartitionSet(series, span, partitions.entries, row_bounds, footers), tuple(held)
        )

    def _footers_by_key(self, partitions: PartitionSet) -> dict[str, Footer]:
        """Return the footers of the partitions, from memory where their version is known."""
        known: dict[str, Footer] = {}
        unknown: list[StoredObject] = []
        for entry in partitions.entries:
            found = self._footers.get(entry.key)
            if found and found[0] == entry.etag:
                known[entry.key] = found[1]
            else:
                unknown.append(entry)
        if not unknown:
            return known
        listed_again: set[StoredObject] = set()

        def list_again() -> set[StoredObject]:
            listed_again.update(self._partitions.list(partitions.series, partitions.span).entries)
            return listed_again

        read = self._coverage.footers_of(unknown, list_again)
        if len(self._footers) + len(unknown) > _MAX_FOOTERS:
            self._footers = {}
        # Do not keep the footer of what was replaced between listing and reading: the ETag is the
        # old one.
        self._footers |= {
            entry.key: (entry.etag, read[entry.key])
            for entry in unknown
            if not listed_again or entry in listed_again
        }
        return known | {entry.key: read[entry.key] for entry in unknown}

    def _missing_while_trading(self, plan: SeriesPlan) -> list[Span]:
        """Return what is missing, without the time before the listing and after the delisting."""
        gaps = plan.missing_in(plan.span)
        if not gaps:
            return []
        trading_span = self.trading_span(plan.series)
        if trading_span is not None:
            return plan.missing_in(plan.span.clip(trading_span))
        if not plan.partitions.entries:
            self._check_known(plan.series)
        return gaps

    def _check_known(self, series: Series) -> None:
        """Raise UnknownSymbol if the lake holds nothing of a symbol that no catalog has."""
        folder = keys.group_folder("lake", series.market, series.kind, series.interval)
        symbols = sorted({keys.symbol_of(entry.key) or "" for entry in self._files.list(folder)})
        if series.symbol in symbols:
            return
        similar = difflib.get_close_matches(series.symbol, symbols, n=3)
        hint = (
            f"did you mean {', '.join(similar)}?"
            if similar
            else f"it holds {len(symbols):,} other symbols."
        )
        raise UnknownSymbol(f"the lake holds nothing of {series}; {hint} Nothing was read")


def _sources(footer: Footer, span: Span) -> list[tuple[Span, Source | None]]:
    """Return the covered parts of `span` with their sources, oldest first; None if not recorded."""
    by_source: dict[Source, list[Span]] = {}
    for origin in footer.origins:
        by_source.setdefault(origin.source, []).append(origin.span)
    return sorted(
        (
            (part, None if source == UNRECORDED else source)
            for source, parts in by_source.items()
            for part in spans.clip(parts, span)
        ),
        key=lambda found: found[0],
    )


def _check_complete(missing_by_series: Mapping[Series, list[Span]]) -> None:
    """Raise RangeNotHeld if any of the series has missing spans."""
    missing_by_series = {series: gaps for series, gaps in missing_by_series.items() if gaps}
    if not missing_by_series:
        return
    named = [f"{series} lacks {_format(gaps)}" for series, gaps in missing_by_series.items()]
    more = f" and {len(named) - _MAX_NAMED:,} more series" if len(named) > _MAX_NAMED else ""
    raise RangeNotHeld(
        f"the lake does not hold the whole range: {'; '.join(named[:_MAX_NAMED])}{more}. Nothing "
        "was read. Fetch it with `klines download`, or read what is held with partial=True",
        missing={series.symbol: gaps for series, gaps in missing_by_series.items()},
    )


def _hull(several: Sequence[Span]) -> Span:
    """Return the span from the start of the first to the end of the last."""
    return Span(several[0].start_ms, several[-1].end_ms)


def _format(gaps: Iterable[Span]) -> str:
    named = [str(span) for span in gaps]
    more = f" and {len(named) - _MAX_NAMED:,} more spans" if len(named) > _MAX_NAMED else ""
    return ", ".join(named[:_MAX_NAMED]) + more

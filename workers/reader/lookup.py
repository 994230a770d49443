"""What of a wanted time the lake holds, what it lacks, and where each part of it comes from."""

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
from klinefleet.workers.lake.footer import Footer
from klinefleet.workers.reader.partition_reader import PartitionReader, PartitionSet
from klinefleet.workers.storage.objects import ObjectStore, StoredObject
from klinefleet.workers.support.threads import Threads

#: Series that are looked up at once.
_LOOKERS = 16
#: Missing spans that an error names.
_NAMED = 3
#: Footers remembered by one reader, by version.
_MOST_FOOTERS = 20_000

CACHE, LAKE, FETCHED = "cache", "lake", "fetched"


class Fetcher(Protocol):
    """Has a fleet fetch what is missing."""

    def trading_span(self, series: Series) -> Span:
        """Return the time in which the series can have closed candles, as far as the exchange
        tells.
        """
        ...

    def fetch(self, wanted: Mapping[Series, list[Span]]) -> None:
        """Return when all of it is in the lake; FleetError where some of it could not be fetched."""
        ...


@dataclass(frozen=True, slots=True)
class RequestedRange:
    """The time that is wanted, ms UTC; None is where what there is begins or ends, at `now_ms` at
    the latest.
    """

    start_ms: int | None
    end_ms: int | None
    now_ms: int

    @property
    def longest(self) -> Span:
        return self.within(Span(0, self.now_ms))

    def within(self, known: Span) -> Span:
        """Return the wanted time where what there is begins and ends as `known` does."""
        start_ms = known.start_ms if self.start_ms is None else self.start_ms
        return Span(
            start_ms, known.end_ms if self.end_ms is None else min(self.end_ms, self.now_ms)
        )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the rows of a span come from: `held` is cache, lake or fetched (just now), `source` who
    told them.
    """

    symbol: str
    span: Span
    held: str
    source: Source | None

    def __str__(self) -> str:
        of = f" ({self.source})" if self.source else ""
        return f"{self.symbol} {self.span}: {self.held}{of}"


@dataclass(frozen=True, slots=True)
class Part:
    """What is read of one series: `months` has the span, `held` the parts of it that are held."""

    months: PartitionSet
    held: tuple[Span, ...]
    fetched: tuple[Span, ...] = ()

    @property
    def series(self) -> Series:
        return self.months.series


class Lookup:
    """Finds what is held. `fetcher` is whoever may be asked for more."""

    def __init__(
        self,
        files: ObjectStore,
        months: PartitionReader,
        coverage: Coverage,
        catalogs: Catalogs,
        fetcher: Fetcher | None,
    ) -> None:
        self._files = files
        self._months = months
        self._coverage = coverage
        self._catalogs = catalogs
        self._fetcher = fetcher
        self._footers: dict[str, tuple[str, Footer]] = {}
        self._catalog_of: dict[Market, Catalog | None] = {}
        """Read once a reading, however many symbols it has."""

    def find(
        self, several: Sequence[Series], wanted: RequestedRange, *, partial: bool
    ) -> list[Part]:
        """Return what is held of some series.

        UnknownSymbol where nobody knows one; RangeNotHeld where something is missing, unless a part
        will do.
        """
        self._catalog_of = {}
        parts = self._parts(several, wanted)
        lacking = {part.series: lacks for part in parts if (lacks := self._lacks(part))}
        if lacking and not partial:
            _refuse(lacking)
        return parts

    def fetch(
        self, several: Sequence[Series], wanted: RequestedRange, *, partial: bool
    ) -> list[Part]:
        """Return what is held of some series once the fleet has fetched what was missing."""
        if self._fetcher is None:
            raise RequestError(
                "fetch=True needs a reader with a fleet: tasks.notebook.reader(); nothing was read"
            )
        self._catalog_of = {}
        lives = {series: self._fetcher.trading_span(series) for series in several}
        lives = {series: wanted.within(life).clip(life) for series, life in lives.items()}
        found = {series: self._part(series, span) for series, span in lives.items()}
        lacking = {
            s: lacks for s, part in found.items() if (lacks := missing(s, part.held, lives[s]))
        }
        if lacking:
            self._fetcher.fetch(lacking)
            found |= {
                s: replace(self._part(s, lives[s]), fetched=tuple(lacks))
                for s, lacks in lacking.items()
            }
        parts = list(found.values())
        still = {
            part.series: lacks
            for part in parts
            if (lacks := missing(part.series, part.held, part.months.span))
        }
        if still and not partial:
            _refuse(still)
        return parts

    def trading_span(self, series: Series) -> Span | None:
        """Return the time in which the series can have candles, as the lake's catalog has it; None:
        it does not say.
        """
        if not series.kind.is_dated_by_catalog:
            return None
        if series.market not in self._catalog_of:
            self._catalog_of[series.market] = self._catalogs.newest(series.market)
        catalog = self._catalog_of[series.market]
        entry = catalog.get(series.symbol) if catalog else None
        return entry.trading_span if entry else None

    def provenance(self, part: Part) -> Iterator[Provenance]:
        """Yield where the rows of a part come from, oldest first."""
        for entry in part.months.entries:
            held = CACHE if self._months.is_cached(entry) else LAKE
            footer = part.months.footers[entry.key]
            known = [
                (origin.span.clip(part.months.span), origin.source) for origin in footer.origins
            ]
            told = [(span, source) for span, source in known if not span.is_empty]
            covered = spans.clip(footer.covered, part.months.span)
            untold = [(gap, None) for gap in spans.without(covered, (span for span, _ in told))]
            for span, source in sorted([*told, *untold], key=lambda found: found[0]):
                new = any(not span.clip(fetched).is_empty for fetched in part.fetched)
                yield Provenance(part.series.symbol, span, FETCHED if new else held, source)

    def _parts(self, several: Sequence[Series], wanted: RequestedRange) -> list[Part]:
        if len(several) == 1:
            return [self._part(several[0], wanted)]
        with Threads(_LOOKERS, thread_name_prefix="lookup") as lookers:
            return list(lookers.map(lambda series: self._part(series, wanted), several))

    def _part(self, series: Series, wanted: RequestedRange | Span) -> Part:
        asked = wanted if isinstance(wanted, Span) else wanted.longest
        months = self._months.list(series, asked)
        footers = self._footers_of(months)
        known = spans.union(span for footer in footers.values() for span in footer.covered)
        covered = spans.clip(known, asked)
        if covered and isinstance(wanted, RequestedRange):
            asked = wanted.within(_hull(covered))
        held = _hull(known) if known else None
        return Part(PartitionSet(series, asked, months.entries, held, footers), tuple(covered))

    def _footers_of(self, months: PartitionSet) -> dict[str, Footer]:
        known = {entry.key: self._footers.get(entry.key) for entry in months.entries}
        new = [
            entry
            for entry in months.entries
            if (found := known[entry.key]) is None or found[0] != entry.etag
        ]
        if new:
            still: set[StoredObject] = set()

            def again() -> set[StoredObject]:
                still.update(self._months.list(months.series, months.span).entries)
                return still

            read = self._coverage.footers_of(new, again)
            known |= {entry.key: (entry.etag, read[entry.key]) for entry in new}
            if len(self._footers) + len(new) > _MOST_FOOTERS:
                self._footers = {}
            # What was replaced between the listing and the reading must not be remembered as the
            # old version.
            self._footers |= {e.key: (e.etag, read[e.key]) for e in new if not still or e in still}
        return {key: found[1] for key, found in known.items() if found}

    def _lacks(self, part: Part) -> list[Span]:
        """Return what is missing: before a symbol's listing and after its end, as the catalog has
        them, nothing is.
        """
        series, span = part.series, part.months.span
        if not missing(series, part.held, span):
            return []
        life = self.trading_span(series)
        if life is None and not part.months.entries:
            self._check_known(series)
        return missing(series, part.held, span.clip(life) if life else span)

    def _check_known(self, series: Series) -> None:
        """Raise UnknownSymbol where the lake holds nothing of a symbol that no catalog has."""
        folder = keys.group_folder("lake", series.market, series.kind, series.interval)
        symbols = sorted({keys.symbol_of(entry.key) or "" for entry in self._files.list(folder)})
        if series.symbol not in symbols:
            near = difflib.get_close_matches(series.symbol, symbols, n=3)
            hint = (
                f"did you mean {', '.join(near)}?"
                if near
                else f"{len(symbols):,} other symbols are there."
            )
            raise UnknownSymbol(f"the lake holds nothing of {series}; {hint} Nothing was read")


def _refuse(lacking: Mapping[Series, list[Span]]) -> None:
    told = [f"{series} lacks {_named(lacks)}" for series, lacks in lacking.items()]
    more = f" and {len(told) - _NAMED:,} series more" if len(told) > _NAMED else ""
    raise RangeNotHeld(
        f"the lake does not hold all of it: {'; '.join(told[:_NAMED])}{more}. Nothing was read; "
        "`klines download` "
        "fetches it, partial=True reads what is there",
        missing={series.symbol: lacks for series, lacks in lacking.items()},
    )


def _hull(several: Sequence[Span]) -> Span:
    return Span(several[0].start_ms, several[-1].end_ms)


def _named(lacks: Iterable[Span]) -> str:
    several = [str(span) for span in lacks]
    more = f" and {len(several) - _NAMED:,} spans more" if len(several) > _NAMED else ""
    return ", ".join(several[:_NAMED]) + more

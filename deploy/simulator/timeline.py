"""Which candles exist, as runs of neighbours, and which of them a call asks for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from deploy.simulator.intervals import GRIDS, FixedGrid, Grid
from deploy.simulator.markets import Market
from deploy.simulator.moments import HOUR_MS
from deploy.simulator.outages import (
    OFF_GRID,
    OFF_GRID_ANCHOR_MS,
    Span,
    flat_span,
    next_trading,
    trading_spans,
)
from deploy.simulator.symbols import Instrument


@dataclass(frozen=True, slots=True)
class Run:
    """Candles without a gap, from index `first` to index `last`, both included."""

    grid: Grid
    first: int
    last: int
    #: Close time of the last candle when an outage cut it short.
    cut_close_ms: int | None = None
    #: Candles of a stretch in which nothing traded.
    flat: bool = False

    @property
    def rows(self) -> int:
        return self.last - self.first + 1

    def part(self, first: int, last: int) -> Run:
        """Return the candles between two indices.

        A cut close time stays with the candle it belongs to.
        """
        return replace(
            self,
            first=first,
            last=last,
            cut_close_ms=self.cut_close_ms if last == self.last else None,
        )


@dataclass(frozen=True, slots=True)
class Series:
    """The candles of one instrument at one interval."""

    instrument: Instrument
    interval: str

    def runs(self, low_ms: int, high_ms: int) -> Iterator[Run]:
        """Yield the candles that ever existed with `low_ms` <= open time <= `high_ms`, in order."""
        market = self.instrument.market
        listed_ms = next_trading(market, self.instrument.listed_ms)
        ends_ms = self.instrument.ends_ms
        runs, first_opens = _runs(market, self.interval)
        for run in runs[max(0, bisect_right(first_opens, max(low_ms, 0)) - 1) :]:
            grid = run.grid
            if grid.open_of(run.first) > high_ms:
                return
            first = max(run.first, grid.index_at(listed_ms), grid.index_at(low_ms - 1) + 1)
            last = min(run.last, grid.index_at(high_ms))
            if ends_ms is not None:
                last = min(last, grid.index_at(ends_ms - 1))
            if first <= last:
                yield run.part(first, last)


def oldest(series: Series, low_ms: int, high_ms: int, limit: int) -> list[Run]:
    """Return the first `limit` candles of the window."""
    taken: list[Run] = []
    for run in series.runs(low_ms, high_ms):
        taken.append(run if run.rows <= limit else run.part(run.first, run.first + limit - 1))
        limit -= taken[-1].rows
        if limit == 0:
            break
    return taken


def newest(series: Series, low_ms: int, high_ms: int, limit: int) -> list[Run]:
    """Return the last `limit` candles of the window, oldest first."""
    taken: list[Run] = []
    for run in reversed(list(series.runs(low_ms, high_ms))):
        taken.append(run if run.rows <= limit else run.part(run.last - limit + 1, run.last))
        limit -= taken[-1].rows
        if limit == 0:
            break
    return taken[::-1]


@cache
def _runs(market: Market, interval: str) -> tuple[list[Run], list[int]]:
    runs: list[Run] = []
    for span, following in _with_next(trading_spans(market)):
        grid = _grid(interval, span)
        run = _run(grid, span, following, interval)
        if (
            runs
            and runs[-1].grid == grid
            and runs[-1].cut_close_ms is None
            and run.first <= runs[-1].last + 1
        ):
            runs[-1] = replace(run, first=runs[-1].first)
        else:
            runs.append(run)
    quiet = flat_span(market)
    if quiet:
        runs = [part for run in runs for part in _split(run, quiet)]
    return runs, [run.grid.open_of(run.first) for run in runs]


def _with_next(spans: tuple[Span, ...]) -> Iterator[tuple[Span, Span | None]]:
    return zip(spans, (*spans[1:], None), strict=True)


def _grid(interval: str, span: Span) -> Grid:
    """Return the grid in force; only intervals up to an hour are known to have left theirs."""
    grid = GRIDS[interval]
    if (
        span.start_ms != OFF_GRID.start_ms
        or not isinstance(grid, FixedGrid)
        or grid.step_ms > HOUR_MS
    ):
        return grid
    return FixedGrid(grid.step_ms, OFF_GRID_ANCHOR_MS % grid.step_ms)


def _run(grid: Grid, span: Span, following: Span | None, interval: str) -> Run:
    """Return the candles of one stretch of trading.

    The last is cut, unless trading resumed before its time was up.
    """
    first, last = grid.index_at(span.start_ms), grid.index_at(span.end_ms - 1)
    resumed = (
        following is not None
        and _grid(interval, following) == grid
        and grid.index_at(following.start_ms) == last
    )
    cut = following is not None and not resumed and grid.open_of(last + 1) > span.end_ms
    return Run(grid, first, last, cut_close_ms=span.end_ms - 1 if cut else None)


def _split(run: Run, quiet: Span) -> Iterator[Run]:
    first, last = run.grid.index_at(quiet.start_ms - 1) + 1, run.grid.index_at(quiet.end_ms) - 1
    if first > last or last < run.first or first > run.last:
        yield run
        return
    yield run.part(run.first, first - 1)
    yield replace(run.part(first, last), flat=True)
    yield run.part(last + 1, run.last)

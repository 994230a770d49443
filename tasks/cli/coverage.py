"""`klines coverage`: what is held of which series, every hole with its reason, as a table, JSON or
a picture.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from klinefleet.tasks.client.session import lake_services
from klinefleet.workers.domain import parsing
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.symbols import checked_symbol
from klinefleet.workers.support.clock import WallClock

if TYPE_CHECKING:
    from klinefleet.tasks.coverage.report import CoverageReport


#: What pictures are written as, by the ending of their name.
ENDINGS = (".png", ".html")
#: A command that ends sooner prints no progress.
QUIET_S = 2.0


@click.command()
@click.option("--market", help="Only spot, um or cm.")
@click.option(
    "--kind",
    help="Only klines, markPriceKlines, indexPriceKlines, premiumIndexKlines or fundingRate.",
)
@click.option("--interval", help="Only 1m, 1h, …")
@click.option(
    "--symbols",
    help="Only these, separated by commas; with --market also such that nothing is held of.",
)
@click.option(
    "--start",
    help="First open time, UTC; where not given, the first that any series of the kind holds.",
)
@click.option(
    "--end",
    help="End, exclusive, UTC; where not given, the last that any series of the kind holds.",
)
@click.option(
    "--holes", is_flag=True, help="List every hole; for a single series they are listed anyway."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with every hole.")
@click.option(
    "--plot",
    "plots",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="Draw it to a .png or a .html that needs nothing else; may be given for both.",
)
def coverage(
    market: str | None,
    kind: str | None,
    interval: str | None,
    symbols: str | None,
    start: str | None,
    end: str | None,
    holes: bool,
    as_json: bool,
    plots: tuple[Path, ...],
) -> None:
    """Tell what the lake holds of each series and why each missing part is missing.

    Without options of everything in the lake. Works without Redis; with one it tells also what runs
    are at.

    \b
    Reasons: before listing, after the end of trading, exchange outage (most series of the market had no candle),
      no candle at the exchange (this one alone), failed, not published yet, being fetched, not fetched, damaged.
    Exit code 0: nothing is missing but what never existed (the first four). 1: something is missing that can be
      fetched (the last five). 2: the request makes no sense.
    JSON: {store, made, complete, runs_known, groups: [{market, kind, interval, start, end, catalog, series, outages}],
      series: [{market, kind, interval, symbol, asked, listed, ended, is_listing_known, held, rows, share, complete,
      holes: [{start, end, reason, candles, told, again}]}]}, times UTC, ends exclusive.

    \b
      klines coverage --market um --interval 1m --plot coverage.html
      klines coverage --json | jq -r '.series[] | select(.complete | not) | .symbol'
    """
    from klinefleet.tasks.coverage.build import CoverageQuery, coverage_report
    from klinefleet.tasks.coverage.text import lines

    _check(plots)
    query = CoverageQuery(
        *_group(market, kind, interval),
        tuple(
            dict.fromkeys(checked_symbol(symbol) for symbol in symbols.split(",") if symbol.strip())
        )
        if symbols is not None
        else (),
        parsing.parse_timestamp("start", start) if start is not None else None,
        parsing.parse_timestamp("end", end) if end is not None else None,
    )
    if symbols is not None and not query.symbols:
        raise RequestError(f"no symbol in {symbols!r}")
    if query.start_ms is not None and query.end_ms is not None and query.start_ms >= query.end_ms:
        raise RequestError(f"start {start} is not before end {end}")
    with lake_services() as services:
        report = coverage_report(services, query, _DelayedProgress(), now_ms=WallClock().now_ms())
    for path in plots:
        _draw(report, path)
    if as_json:
        click.echo(json.dumps(report.facts(), ensure_ascii=False))
    else:
        click.echo("\n".join(lines(report, every_hole=holes or len(report.series) == 1)))
    sys.exit(0 if report.is_complete else 1)


class _DelayedProgress:
    """Prints progress lines to stderr, once the command has run for `QUIET_S`."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._began > QUIET_S:
            click.echo(f"{text} …", err=True)


def _group(
    market: str | None, kind: str | None, interval: str | None
) -> tuple[Market | None, Kind | None, Interval | None]:
    """Return the market, kind and interval of these names; RequestError where there are no such, or
    not together.
    """
    of_market = parsing.parse_market(market) if market is not None else None
    of_kind = parsing.parse_kind(of_market, kind) if kind is not None else None
    # Spot has every interval.
    if interval is None and (of_kind is None or of_kind.has_interval):
        return of_market, of_kind, None
    return (
        of_market,
        of_kind,
        parsing.parse_interval(of_market or Market.SPOT, of_kind or DEFAULT_KIND, interval),
    )


def _check(plots: tuple[Path, ...]) -> None:
    """Raise RequestError for a picture that cannot be written, before anything takes time."""
    from klinefleet.workers.support.optional import require_extra

    for path in plots:
        if path.suffix.lower() not in ENDINGS:
            raise RequestError(f"--plot {path} ends in none of {', '.join(ENDINGS)}")
        if not path.absolute().parent.is_dir():
            raise RequestError(f"--plot {path}: there is no folder {path.absolute().parent}")
        if path.suffix.lower() == ".png":
            require_extra("matplotlib", "--plot to a .png")


def _draw(report: CoverageReport, path: Path) -> None:
    from klinefleet.tasks.coverage.chart_grid import build_grids

    if path.suffix.lower() == ".png":
        from klinefleet.tasks.coverage.chart_png import write_png as write
    else:
        from klinefleet.tasks.coverage.chart_html import write_page as write
    try:
        write(report, build_grids(report), path)
    except OSError as error:
        raise RequestError(f"--plot {path} cannot be written: {error}") from error
    click.echo(f"{path} is drawn", err=True)

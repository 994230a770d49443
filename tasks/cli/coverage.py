"""`klines coverage`: what the lake holds of each series, and why each missing part is missing."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from klinefleet.tasks.cli.options import (
    end_option,
    interval_option,
    kind_option,
    market_option,
    start_option,
)
from klinefleet.tasks.client.session import lake_services
from klinefleet.tasks.requests.build import parse_bounds
from klinefleet.tasks.requests.refusal import on_refusal
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


#: Extensions of the files that --plot writes.
PLOT_EXTENSIONS = (".png", ".html")
#: A command that ends sooner, in seconds, prints no progress.
QUIET_S = 2.0


@click.command()
@market_option(show_default="all")
@kind_option(show_default="all")
@interval_option(show_default="all")
@click.option(
    "--symbols",
    metavar="LIST",
    show_default="all held ones",
    help="Symbols, separated by commas; with --market also ones that the lake does not hold.",
)
@start_option(show_default="the first held open time of the kind")
@end_option(show_default="the last held one")
@click.option("--holes", is_flag=True, help="List every hole; for a single series they always are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with every hole.")
@click.option(
    "--plot",
    "plots",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="Draw the coverage to a .png or a self-contained .html file; may be repeated.",
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
    """Show what the lake holds, and why the rest is missing.

    Works without Redis; with one it also shows what is being fetched.

    \b
    A hole has one of these reasons. Nothing can be done about the first four.
    Exit code 1 means that there is a hole of the others, 0 that there is none,
    2 a wrong request.
      before listing, after the end of trading
      exchange outage                   most series of the market have no candle
      no candle at the exchange         this series alone has none
      failed, not published yet, being fetched, not fetched, damaged

    \b
    --json prints one object; times are UTC, ends exclusive:
      {store, made, complete, runs_known,
       groups: [{market, kind, interval, start, end, catalog, series, outages}],
       series: [{market, kind, interval, symbol, asked, listed, ended,
                 is_listing_known, held, rows, share, complete,
                 holes: [{start, end, reason, candles, told, again}]}]}

    \b
      klines coverage --market um --interval 1m --plot coverage.html
      klines coverage --json | jq '.series[] | select(.complete | not)'
    """
    from klinefleet.tasks.coverage.build import CoverageQuery, coverage_report
    from klinefleet.tasks.coverage.text import lines

    with on_refusal("nothing was read"):
        _check_plots(plots)
        query = CoverageQuery(
            *_parse_group(market, kind, interval),
            _parse_symbols(symbols),
            *parse_bounds(start, end),
        )
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
        self._started_at = time.monotonic()

    def __call__(self, step: str) -> None:
        if time.monotonic() - self._started_at > QUIET_S:
            click.echo(f"{step} …", err=True)


def _parse_group(
    market: str | None, kind: str | None, interval: str | None
) -> tuple[Market | None, Kind | None, Interval | None]:
    """Return the market, kind and interval of these names, None for those not given.

    RequestError if one does not exist, or they do not go together.
    """
    parsed_market = parsing.parse_market(market) if market is not None else None
    parsed_kind = parsing.parse_kind(parsed_market, kind) if kind is not None else None
    if interval is None and (parsed_kind is None or parsed_kind.has_interval):
        return parsed_market, parsed_kind, None
    # Without a market, any interval of spot is right: it has all there are.
    parsed_interval = parsing.parse_interval(
        parsed_market or Market.SPOT, parsed_kind or DEFAULT_KIND, interval
    )
    return parsed_market, parsed_kind, parsed_interval


def _parse_symbols(text: str | None) -> tuple[str, ...]:
    """Return the symbols of a list, each once; none for None, which means all."""
    if text is None:
        return ()
    names = [checked_symbol(name) for name in text.split(",") if name.strip()]
    if not names:
        raise RequestError(f"no symbol in --symbols {text!r}")
    return tuple(dict.fromkeys(names))


def _check_plots(plots: tuple[Path, ...]) -> None:
    """Raise RequestError for a plot that cannot be written, before anything takes time."""
    from klinefleet.workers.support.optional import require_extra

    for path in plots:
        if path.suffix.lower() not in PLOT_EXTENSIONS:
            raise RequestError(f"--plot {path} must end in {' or '.join(PLOT_EXTENSIONS)}")
        if not path.absolute().parent.is_dir():
            raise RequestError(f"--plot {path}: no folder {path.absolute().parent}")
        if path.suffix.lower() == ".png":
            # It complains of a user without a home folder, and then does without one.
            logging.getLogger("matplotlib").setLevel(logging.ERROR)
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
        raise RequestError(
            f"--plot {path} cannot be written: {error.strerror or 'no reason given'}"
        ) from error
    click.echo(f"wrote {path}", err=True)

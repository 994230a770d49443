"""`klines catalog`: every symbol of every market, kept in the lake and updated daily."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from klinefleet.tasks.cli.options import STATUSES
from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import fleet_services
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.workers.coordination.redis_clock import now_us
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.parsing import parse_market
from klinefleet.workers.domain.timestamps import iso
from klinefleet.workers.support.masking import printable

if TYPE_CHECKING:
    from klinefleet.workers.lake.catalog import Catalog, CatalogEntry
    from klinefleet.workers.services import Services


#: The columns of --json and --csv, after the market.
_COLUMNS = (
    "symbol",
    "status",
    "base",
    "quote",
    "contract",
    "first",
    "last",
    "archive",
    "rest",
    "intervals",
)
#: The columns that people see.
_SHOWN = ("market", "symbol", "status", "base", "quote", "first", "last", "rest")

_local = click.option("--local", is_flag=True, help="Use a private Redis for this command.")
_market = click.option(
    "--market",
    metavar="MARKET",
    default="all",
    show_default=True,
    help="Market: spot, um, cm or all.",
)


@click.group()
def catalog() -> None:
    """List symbols, their dates and intervals.

    The catalog has every symbol that a market has or had, with its first and last candle.
    """


@catalog.command()
@_market
@click.option("--detach", is_flag=True, help="Queue the update for the workers, and return.")
@_local
def update(market: str, detach: bool, local: bool) -> None:
    """Update the catalog from the exchange and its archive."""
    from klinefleet.tasks.catalog import send_catalog
    from klinefleet.tasks.catalog_update.build import update_catalog

    with ExitStack() as stack:
        with on_refusal("the catalog was not updated"):
            if local and detach:
                raise RequestError("--local cannot be combined with --detach")
            services, markets = _services(stack, local), _markets(market)
            preflight.check_same_store(services)
        for market_to_update in markets:
            if detach:
                send_catalog(market_to_update, now_us(services.redis))
            else:
                update_catalog(services, market_to_update, _say)


@catalog.command("list")
@_market
@click.option("--quote", metavar="ASSET", help="Only symbols with this quote asset: USDT.")
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    default="all",
    show_default=True,
    help="Only symbols with this status.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@_local
def list_symbols(
    market: str, quote: str | None, status: str, as_json: bool, as_csv: bool, local: bool
) -> None:
    """Print the symbols.

    A catalog older than a day is updated first.
    """
    with ExitStack() as stack:
        catalogs = _fresh_catalogs(_services(stack, local), _markets(market))
    rows = [
        {"market": str(found.market), **dict(zip(_COLUMNS, _row(entry), strict=True))}
        for found in catalogs
        for entry in found.entries(quote.upper() if quote else None, status)
    ]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif as_csv:
        _write_csv(sys.stdout, ("market", *_COLUMNS), (tuple(row.values()) for row in rows))
    else:
        _print_table(rows)
        click.echo(f"{len(rows):,} symbols", err=True)


@catalog.command()
@click.option(
    "--to",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    required=True,
    help="Write the CSV files to this folder.",
)
@_local
def report(to: Path, local: bool) -> None:
    """Write the symbols and their earliest dates as CSV files.

    \b
    <market>_earliest_dates.csv, all_markets_earliest_dates.csv
        first candle and intervals of each symbol
    spot_um_symbols.csv
        symbols on spot and USD-M with the same base and quote
    spot_um_cm_symbols.csv
        symbols on all three; COIN-M's USD counts as USDT
    """
    from klinefleet.tasks.catalog_update.csv_reports import write_reports

    try:
        # Before the catalogs are updated, which takes minutes.
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"--to {to} cannot be written: {error.strerror or 'no reason given'}; no report was "
            "written"
        ) from error
    with ExitStack() as stack:
        catalogs = _fresh_catalogs(_services(stack, local), list(Market))
    for path, rows in write_reports({found.market: found for found in catalogs}, to):
        click.echo(f"{path}: {rows:,} rows")


def _services(stack: ExitStack, local: bool) -> Services:
    services = stack.enter_context(fleet_services(local=local))
    preflight.check_redis(services)
    preflight.check_store(services)
    return services


def _fresh_catalogs(services: Services, markets: Iterable[Market]) -> list[Catalog]:
    from klinefleet.tasks.catalog_update.build import fresh_catalog

    return [fresh_catalog(services, market, _say) for market in markets]


def _markets(text: str) -> list[Market]:
    return list(Market) if text.lower() == "all" else [parse_market(text)]


def _row(entry: CatalogEntry) -> Sequence[str]:
    """Return the entry's values in the order of _COLUMNS."""
    first = iso(entry.first_ms) if entry.first_ms is not None else ""
    last = iso(entry.last_ms) if entry.last_ms is not None else ""
    archive = iso(entry.archive_ms) if entry.archive_ms is not None else ""
    rest = "yes" if entry.in_rest else "no"
    names = (entry.symbol, entry.status, entry.base, entry.quote, entry.contract_type)
    return (*names, first, last, archive, rest, ",".join(entry.intervals))


def _print_table(rows: Sequence[Mapping[str, str]]) -> None:
    from klinefleet.tasks.cli.output.text_table import TextColumn, table_lines

    columns = [TextColumn(name, [row[name] for row in rows]) for name in _SHOWN]
    # Without headings: each line is a symbol.
    for line in table_lines(columns)[1:]:
        click.echo(line)


def _write_csv(out: TextIO, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _say(text: str) -> None:
    click.echo(printable(text), err=True)

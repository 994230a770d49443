"""`klines catalog`: what every market has and had, kept in the lake and made anew once a day."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import fleet_services
from klinefleet.tasks.requests import build
from klinefleet.workers.coordination.redis_clock import now_us
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import iso

if TYPE_CHECKING:
    from klinefleet.workers.lake.catalog import Catalog, CatalogEntry
    from klinefleet.workers.services import Services


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

_local = click.option("--local", is_flag=True, help="Bring a private Redis for this one command.")
_market = click.option("--market", default="all", show_default=True, help="spot, um, cm or all.")


@click.group()
def catalog() -> None:
    """Every symbol that the markets have and had: since when, until when, in which intervals and
    from where.
    """


@catalog.command()
@_market
@click.option("--detach", is_flag=True, help="Have the fleet do it, and return.")
@_local
def update(market: str, detach: bool, local: bool) -> None:
    """Ask the exchange and its archive for all symbols, and keep what they tell in the lake."""
    from klinefleet.tasks.catalog import send_catalog
    from klinefleet.tasks.catalog_update.build import update_catalog

    if local and detach:
        raise RequestError("--local ends with the command, so --detach cannot go with it")
    with ExitStack() as stack:
        services = _services(stack, local)
        for one in _markets(market):
            if detach:
                send_catalog(one, now_us(services.redis))
            else:
                update_catalog(services, one, _say)


@catalog.command("list")
@_market
@click.option("--quote", help="Only symbols of this quote asset, like USDT.")
@click.option(
    "--status",
    type=click.Choice(["trading", "all"]),
    default="all",
    show_default=True,
    help="Which.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
@_local
def list_symbols(
    market: str, quote: str | None, status: str, as_json: bool, as_csv: bool, local: bool
) -> None:
    """Print the symbols; a catalog that is older than a day is made anew first."""
    with ExitStack() as stack:
        catalogs = _fresh(_services(stack, local), _markets(market))
    rows = [
        {"market": str(one.market), **dict(zip(_COLUMNS, _row(entry), strict=True))}
        for one in catalogs
        for entry in one.entries(quote.upper() if quote else None, status)
    ]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif as_csv:
        _write(sys.stdout, ("market", *_COLUMNS), (tuple(row.values()) for row in rows))
    else:
        for row in rows:
            click.echo(
                "  ".join(f"{row[name]:<{width}}" for name, width in _WIDTHS.items()).rstrip()
            )
        click.echo(f"{len(rows):,} symbols", err=True)


@catalog.command()
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder the CSV files are written to.",
)
@_local
def report(to: Path, local: bool) -> None:
    """Write what researchers ask for as CSV.

    \b
    <market>_earliest_dates.csv, all_markets_earliest_dates.csv   since when, in which intervals
    spot_um_symbols.csv                                           in spot and USD-M, same base and quote
    spot_um_cm_symbols.csv                                        in all three: COIN-M's USD stands for USDT
    """
    from klinefleet.tasks.catalog_update.csv_reports import write_reports

    try:
        # Said before the catalogs are made, which takes minutes.
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"the reports cannot be written to {to}: {error}") from error
    with ExitStack() as stack:
        catalogs = _fresh(_services(stack, local), list(Market))
    for path, rows in write_reports({one.market: one for one in catalogs}, to):
        click.echo(f"{path}: {rows:,} rows")


def _services(stack: ExitStack, local: bool) -> Services:
    services = stack.enter_context(fleet_services(local=local))
    preflight.check_redis(services)
    preflight.check_store(services)
    return services


def _fresh(services: Services, markets: Iterable[Market]) -> list[Catalog]:
    from klinefleet.tasks.catalog_update.build import fresh_catalog

    return [fresh_catalog(services, market, _say) for market in markets]


def _markets(text: str) -> list[Market]:
    return list(Market) if text.lower() == "all" else [build.market_of(text)]


def _row(entry: CatalogEntry) -> Sequence[str]:
    first = iso(entry.first_ms) if entry.first_ms is not None else ""
    last = iso(entry.last_ms) if entry.last_ms is not None else ""
    archive = iso(entry.archive_ms) if entry.archive_ms is not None else ""
    rest = "yes" if entry.in_rest else "no"
    told = (entry.symbol, entry.status, entry.base, entry.quote, entry.contract_type)
    return (*told, first, last, archive, rest, ",".join(entry.intervals))


def _write(out: object, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    writer = csv.writer(out, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerow(header)
    writer.writerows(rows)


_WIDTHS = {
    "market": 4,
    "symbol": 20,
    "status": 12,
    "base": 10,
    "quote": 6,
    "first": 16,
    "last": 16,
    "rest": 3,
}


def _say(text: str) -> None:
    click.echo(text, err=True)

"""`klines read`: rows of the lake on the screen, in a file or in a pipe, as they are held or as SQL
makes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from klinefleet.tasks.client.session import (
    command_settings,
    fleet_services,
    hear_sigterm,
    private_fleet,
)
from klinefleet.tasks.requests.symbols import parse_selection
from klinefleet.workers.domain import parsing
from klinefleet.workers.domain.errors import RangeNotHeld, RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import iso
from klinefleet.workers.lake import keys

if TYPE_CHECKING:
    import polars as pl

    from klinefleet.workers.reader.reader import Fill, Reader


#: Missing spans that are named; more are counted.
_NAMED = 5
#: Options that say which rows; with --sql the query does.
_ROWS = (
    "market", "symbols", "symbols_file", "every", "kind", "interval", "start", "end", "columns", "resample", "fill",
    "panel", "partial", "fetch", "local",
)  # fmt: skip


@click.command()
@click.option("--market", help="spot, um (USD-M futures) or cm (COIN-M futures).")
@click.option("--symbols", help="Symbols, separated by commas: BTCUSDT,ETHUSDT.")
@click.option(
    "--symbols-file",
    type=click.Path(path_type=Path),
    help="A CSV with a column symbol, or one a line.",
)
@click.option("--all", "every", is_flag=True, help="Every symbol that the lake holds anything of.")
@click.option(
    "--kind", help="klines, markPriceKlines, indexPriceKlines, premiumIndexKlines or fundingRate."
)
@click.option("--interval", help="1s (spot only), 1m (the default), 3m … 1d, 3d, 1w, 1M.")
@click.option(
    "--start",
    help="First open time, UTC: 2024-01-01; where what is held begins if it is not given.",
)
@click.option("--end", help="End, exclusive, UTC; where what is held ends if it is not given.")
@click.option("--columns", help="Only these, separated by commas; `symbol` comes first.")
@click.option("--resample", help="Make coarser candles of them: 5m, 1h, 1d, 1w, 1M, 7m.")
@click.option(
    "--fill",
    type=click.Choice(["forward"]),
    help="Make up what the exchange lacks; is_made_up marks it.",
)
@click.option(
    "--panel",
    is_flag=False,
    flag_value="close",
    metavar="[COLUMN]",
    help="A column for each symbol: close.",
)
@click.option(
    "--partial", is_flag=True, help="Read what is held of the range, though it is not all."
)
@click.option("--fetch", is_flag=True, help="Have the fleet fetch what is missing, and wait.")
@click.option(
    "--local",
    is_flag=True,
    help="With --fetch: start a private Redis and worker for this one command.",
)
@click.option(
    "--sql",
    metavar="QUERY",
    help="Answer one SELECT instead; each kind is a view: klines, fundingRate, …",
)
@click.option("--head", type=click.IntRange(min=0), metavar="N", help="Show the first N rows.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Show the last N rows.")
@click.option(
    "--describe", is_flag=True, help="Show count, least, mean and greatest of each column."
)
@click.option(
    "--to",
    metavar="FILE",
    help="Write FILE.csv, .parquet, .arrow, .feather or .json; - for stdout.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "arrow", "json"]),
    help="With --to -: csv, …",
)
def read(sql: str | None, to: str | None, form: str | None, **options: Any) -> None:
    """Read rows of the lake: to the screen, to a file, or to a pipe.

    \b
      klines read --market um --symbols BTCUSDT --start 2024-01-01 --end 2024-02-01 --resample 1h
      klines read --market um --symbols BTCUSDT,ETHUSDT --interval 1h --panel --to closes.parquet
      klines read --market spot --symbols BTCUSDT --start 2024-01-01 --fetch --to - | head
      klines read --sql "SELECT symbol, max(high) FROM klines WHERE interval = '1d' GROUP BY symbol"

    Exit 1 where the range is not all held, naming the missing spans and the command that fetches
    them.
    """
    screen = Screen(options["head"], options["tail"], options["describe"])
    _check_target(to, form, screen)
    with ExitStack() as stack:
        if sql is not None:
            _give(_answer(sql, options, screen), screen, to, form)
            return
        asked = Asked.of(options)
        reader = _reader(stack, options["fetch"], options["local"])
        try:
            rows = asked.rows(reader, fetch=options["fetch"])
        except RangeNotHeld as error:
            raise RangeNotHeld(asked.told(error.missing), missing=error.missing) from error
        if options["fetch"]:
            click.echo(str(reader.report), err=True)
        _give(rows, screen, to, form)


@dataclass(frozen=True, slots=True)
class Screen:
    """What is to be seen where nothing is written."""

    head: int | None
    tail: int | None
    describe: bool

    @property
    def is_asked_for(self) -> bool:
        return self.head is not None or self.tail is not None or self.describe


class Known(TypedDict):
    """Which rows, in the words that every way of reading takes."""

    kind: str
    partial: bool
    fetch: bool


class Shaped(TypedDict):
    """What is made of them."""

    resample: str | None
    fill: Fill | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows are to be read, in the reader's words."""

    market: Market
    kind: Kind
    interval: Interval
    symbols: tuple[str, ...]
    start: str | None
    end: str | None
    columns: list[str] | None
    resample: str | None
    fill: Fill | None
    panel: str | None
    partial: bool

    @classmethod
    def of(cls, options: dict[str, Any]) -> Asked:
        """Return what the options say; RequestError where they make no sense."""
        if not options["market"]:
            raise RequestError(
                "say which rows: --market and --symbols, --symbols-file or --all; or --sql"
            )
        if options["local"] and not options["fetch"]:
            raise RequestError(
                "--local starts a worker for what --fetch asks for; say --fetch as well"
            )
        if options["panel"] and options["columns"]:
            raise RequestError(
                "--panel has one column of each symbol; say --panel "
                f"{options['columns'].split(',')[0]}"
            )
        market = parsing.parse_market(options["market"])
        kind = parsing.parse_kind(market, options["kind"] or DEFAULT_KIND.name)
        interval = parsing.parse_interval(market, kind, options["interval"])
        selection = parse_selection(
            options["symbols"], options["symbols_file"], None, options["every"]
        )
        return cls(
            market,
            kind,
            interval,
            selection.names or _held(market, kind, interval),
            options["start"],
            options["end"],
            [name.strip() for name in options["columns"].split(",")]
            if options["columns"]
            else None,
            options["resample"],
            options["fill"],
            options["panel"],
            options["partial"],
        )

    def rows(self, reader: Reader, *, fetch: bool) -> pl.LazyFrame:
        """Return the rows; in memory only where coarser candles, made up ones or a panel are asked
        for.
        """
        interval = self.interval if self.interval.is_grid else None
        what = (self.market, self.symbols, interval, self.start, self.end)
        how = Known(kind=str(self.kind), partial=self.partial, fetch=fetch)
        shape = Shaped(resample=self.resample, fill=self.fill)
        if self.panel:
            return reader.panel(*what, value=self.panel, **how, **shape).lazy()
        columns = None if self.columns is None else list(dict.fromkeys(["symbol", *self.columns]))
        if self.resample or self.fill:
            return reader.read(*what, columns=columns, **how, **shape).lazy()
        return reader.scan(*what, columns=columns, **how)

    def told(self, missing: Mapping[str, list[Span]]) -> str:
        """Return in one line what is missing, and what fetches it."""
        named = [f"{symbol} {span}" for symbol, spans in missing.items() for span in spans]
        more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
        spans = [span for several in missing.values() for span in several]
        kind = "" if self.kind == DEFAULT_KIND else f" --kind {self.kind}"
        interval = f" --interval {self.interval}" if self.interval.is_grid else ""
        start, end = (
            iso(min(span.start_ms for span in spans)),
            iso(max(span.end_ms for span in spans)),
        )
        return (
            "not all of it is held, nothing was read; missing: "
            f"{', '.join(named[:_NAMED])}{more}. Fetch it with "
            f"`klines download --market {self.market}{kind} --symbols "
            f"{','.join(missing)}{interval} --start {start} "
            f"--end {end}` or with --fetch, or read what is there with --partial"
        )


def _held(market: Market, kind: Kind, interval: Interval) -> tuple[str, ...]:
    """Return the symbols that the lake holds anything of, sorted."""
    from klinefleet.workers.storage.open import open_store

    store_url = command_settings().store_url
    listed = open_store(store_url).list(keys.group_folder("lake", market, kind, interval))
    symbols = sorted(
        {
            symbol
            for entry in listed
            if keys.month_of(entry.key) and (symbol := keys.symbol_of(entry.key))
        }
    )
    if not symbols:
        raise RequestError(f"the lake at {store_url} holds no {interval} {kind} of market {market}")
    return tuple(symbols)


def _reader(stack: ExitStack, fetch: bool, local: bool) -> Reader:
    """Return a reader, with a fleet where something may have to be fetched."""
    from klinefleet.workers.reader.reader import Reader

    if not fetch:
        return Reader(command_settings().store_url)
    from klinefleet.tasks.client.fetcher import FleetFetcher

    hear_sigterm()
    services = stack.enter_context(fleet_services(local=local))
    start = (lambda queues: stack.enter_context(private_fleet(services, queues))) if local else None
    return Reader(services.settings.store_url, fetcher=FleetFetcher(services, start))


def _answer(sql: str, options: dict[str, Any], screen: Screen) -> Iterator[pl.DataFrame]:
    """Return the answer to a query, in parts."""
    from klinefleet.workers.reader.sql import answer

    if told := [name for name in _ROWS if options[name]]:
        option = {"every": "all"}.get(told[0], told[0].replace("_", "-"))
        raise RequestError(f"--sql says itself which rows; --{option} cannot go with it")
    if screen.describe:
        raise RequestError("--describe cannot go with --sql; SUMMARIZE SELECT … does it")
    return answer(command_settings().store_url, sql)


def _check_target(to: str | None, form: str | None, screen: Screen) -> None:
    """RequestError where it is not clear where the rows go, before any is read."""
    from klinefleet.tasks.cli.row_writer import format_of

    if to is not None:
        format_of(to, form)
        if screen.is_asked_for:
            raise RequestError(
                "--head, --tail and --describe are for the screen; --to writes all rows"
            )
    elif form is not None:
        raise RequestError(f"--format {form} says what goes to stdout; say --to - as well")


def _give(
    rows: pl.LazyFrame | Iterable[pl.DataFrame], screen: Screen, to: str | None, form: str | None
) -> None:
    """Write the rows to where they are wanted, or show some of them."""
    import polars as pl

    from klinefleet.tasks.cli import row_table, row_writer

    if to is None:
        width = shutil.get_terminal_size().columns
        if screen.describe:
            assert isinstance(rows, pl.LazyFrame)
            click.echo(row_table.description(rows, width))
        else:
            click.echo(row_table.text(row_table.glimpse(rows, screen.head, screen.tail), width))
        return
    parts = row_writer.parts_of(rows) if isinstance(rows, pl.LazyFrame) else rows
    if to == "-":
        row_writer.write_stdout(parts, row_writer.format_of(to, form))
        return
    count, size = row_writer.write_file(parts, Path(to), row_writer.format_of(to, form))
    click.echo(f"{count:,} rows, {size / 1e6:,.1f} MB: {to}", err=True)

"""`klines read`: rows of the lake, or a query's result, as a table, in a file or on a pipe."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from klinefleet.tasks.cli.options import (
    end_option,
    interval_option,
    kind_option,
    market_option,
    start_option,
    symbols_file_option,
    symbols_option,
)
from klinefleet.tasks.client.session import (
    command_settings,
    fleet_services,
    handle_sigterm_as_ctrl_c,
    private_fleet,
)
from klinefleet.tasks.requests.refusal import on_refusal
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


#: Missing spans that an error names; if there are more, they are counted.
_MAX_NAMED = 5
#: Options that select or shape rows, which --sql does by itself.
_ROW_OPTIONS = (
    *("market", "symbols", "symbols_file", "all", "kind", "interval", "start", "end"),
    *("columns", "resample", "fill", "panel", "partial", "fetch", "local"),
)


@click.command()
@market_option()
@symbols_option
@symbols_file_option
@click.option("--all", is_flag=True, help="Read every symbol that the lake holds.")
@kind_option(show_default=DEFAULT_KIND.name)
@interval_option(show_default="1m")
@start_option(show_default="the first held open time")
@end_option(show_default="the last held one")
@click.option(
    "--columns", metavar="LIST", show_default="all", help="Only these columns, separated by commas."
)
@click.option(
    "--resample", metavar="INTERVAL", help="Aggregate to coarser candles: 5m, 1h, 1d, 1w, 1M, 7m."
)
@click.option(
    "--fill",
    type=click.Choice(["forward"]),
    help="Fill in candles that the exchange lacks, marked by the column is_made_up.",
)
@click.option(
    "--panel",
    is_flag=False,
    flag_value="close",
    metavar="[COLUMN]",
    help="Make a column of each symbol, with its close or COLUMN.",
)
@click.option("--partial", is_flag=True, help="Read what is held, even if part is missing.")
@click.option("--fetch", is_flag=True, help="Fetch what is missing, and wait for it.")
@click.option(
    "--local",
    is_flag=True,
    help="With --fetch: start a private Redis and workers for this command.",
)
@click.option(
    "--sql",
    metavar="QUERY",
    help="Run one SELECT instead. Each kind is a view: klines, fundingRate, …",
)
@click.option(
    "--sql-files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="With --sql: a file or folder that the query may read too; may be repeated.",
)
@click.option("--head", type=click.IntRange(min=0), metavar="N", help="Show the first N rows.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Show the last N rows.")
@click.option(
    "--describe", is_flag=True, help="Show count, nulls, min, mean and max of each column."
)
@click.option(
    "--to",
    metavar="FILE",
    help="Write all rows to a .csv, .parquet, .arrow, .feather or .json file; - is stdout.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "arrow", "json"]),
    show_default="csv",
    help="Format of --to -.",
)
def read(
    sql: str | None, sql_files: tuple[Path, ...], to: str | None, form: str | None, **options: Any
) -> None:
    """Print, export or query rows of the lake.

    Without --to, the first and last rows are shown. On a terminal, columns that do not fit are left
    out and named. If the range is not held completely, the exit code is 1, and the missing spans
    are named with the command that fetches them.

    \b
      klines read --market um --symbols BTCUSDT --start 2026-01-01 --resample 1h
      klines read --market um --symbols BTCUSDT,ETHUSDT --panel --to all.parquet
      klines read --market spot --symbols BTCUSDT --start 2026-01-01 --fetch
      klines read --market spot --symbols BTCUSDT --to - | head
      klines read --sql "SELECT symbol, max(high) FROM klines GROUP BY symbol"
    """
    view = View(options["head"], options["tail"], options["describe"])
    with ExitStack() as stack:
        with on_refusal("nothing was read"):
            _check_target(to, form, view)
            if sql is not None:
                _check_query_options(options, view)
            else:
                request = ReadRequest.parse(options | {"sql_files": sql_files})
        if sql is not None:
            # Closing interrupts a query whose rows are not read to the end.
            with closing(_run_query(sql, sql_files)) as result:
                _output(result, view, to, form)
            return
        reader = _reader(stack, options["fetch"], options["local"])
        try:
            rows = request.read(reader, fetch=options["fetch"])
        except RangeNotHeld as error:
            raise RangeNotHeld(request.explain(error.missing), missing=error.missing) from error
        if options["fetch"]:
            click.echo(str(reader.report), err=True)
        _output(rows, view, to, form)


@dataclass(frozen=True, slots=True)
class View:
    """What is shown where nothing is written."""

    head: int | None
    tail: int | None
    describe: bool

    @property
    def is_requested(self) -> bool:
        return self.head is not None or self.tail is not None or self.describe


class RowOptions(TypedDict):
    """Arguments that `scan`, `read` and `panel` of a Reader share."""

    kind: str
    partial: bool
    fetch: bool


class ShapeOptions(TypedDict):
    """Arguments that `read` and `panel` of a Reader share."""

    resample: str | None
    fill: Fill | None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """The rows to read, as a Reader takes them."""

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
    def parse(cls, options: dict[str, Any]) -> ReadRequest:
        """Return the request of the command's options; RequestError if they contradict."""
        if not options["market"]:
            raise RequestError(
                "no rows selected; use --market with --symbols, --symbols-file or --all, or --sql"
            )
        for option, needed in (("local", "fetch"), ("sql_files", "sql")):
            if options[option] and not options.get(needed):
                raise RequestError(f"--{option.replace('_', '-')} needs --{needed}")
        columns = options["columns"].split(",") if options["columns"] else None
        if options["panel"] and columns:
            raise RequestError(
                f"--panel cannot be combined with --columns; use --panel {columns[0]}"
            )
        market = parsing.parse_market(options["market"])
        kind = parsing.parse_kind(market, options["kind"] or DEFAULT_KIND.name)
        interval = parsing.parse_interval(market, kind, options["interval"])
        selection = parse_selection(
            options["symbols"], options["symbols_file"], None, options["all"]
        )
        return cls(
            market,
            kind,
            interval,
            selection.names or _held_symbols(market, kind, interval),
            options["start"],
            options["end"],
            [name.strip() for name in columns] if columns else None,
            options["resample"],
            options["fill"],
            options["panel"],
            options["partial"],
        )

    def read(self, reader: Reader, *, fetch: bool) -> pl.LazyFrame:
        """Return the rows; lazy unless they are resampled, filled or made a panel."""
        interval = self.interval if self.interval.is_grid else None
        series = (self.market, self.symbols, interval, self.start, self.end)
        rows = RowOptions(kind=str(self.kind), partial=self.partial, fetch=fetch)
        shape = ShapeOptions(resample=self.resample, fill=self.fill)
        if self.panel:
            return reader.panel(*series, value=self.panel, **rows, **shape).lazy()
        columns = None if self.columns is None else list(dict.fromkeys(["symbol", *self.columns]))
        if self.resample or self.fill:
            return reader.read(*series, columns=columns, **rows, **shape).lazy()
        return reader.scan(*series, columns=columns, **rows)

    def explain(self, missing: Mapping[str, list[Span]]) -> str:
        """Return in one line which spans are missing, and what fetches them."""
        named = [f"{symbol} {span}" for symbol, spans in missing.items() for span in spans]
        more = f" and {len(named) - _MAX_NAMED:,} more" if len(named) > _MAX_NAMED else ""
        return (
            "the range is not held completely; nothing was read; missing: "
            f"{', '.join(named[:_MAX_NAMED])}{more}. Fetch it with `{self._download(missing)}` or "
            "--fetch, or use --partial to read what is held"
        )

    def _download(self, missing: Mapping[str, list[Span]]) -> str:
        """Return the command that fetches the missing spans."""
        spans = [span for symbol_spans in missing.values() for span in symbol_spans]
        kind = "" if self.kind == DEFAULT_KIND else f" --kind {self.kind}"
        interval = f" --interval {self.interval}" if self.interval.is_grid else ""
        start = iso(min(span.start_ms for span in spans))
        end = iso(max(span.end_ms for span in spans))
        return (
            f"klines download --market {self.market}{kind} --symbols {','.join(missing)}{interval} "
            f"--start {start} --end {end}"
        )


def _held_symbols(market: Market, kind: Kind, interval: Interval) -> tuple[str, ...]:
    """Return the symbols that the lake holds rows of, sorted; RequestError if there are none."""
    from klinefleet.workers.storage.open import open_store

    store_url = command_settings().store_url
    listed = open_store(store_url).list(keys.group_folder("lake", market, kind, interval))
    symbols = sorted({partition.series.symbol for partition in keys.partitions_in(listed).values()})
    if not symbols:
        raise RequestError(f"the lake at {store_url} holds no {interval} {kind} of market {market}")
    return tuple(symbols)


def _reader(stack: ExitStack, fetch: bool, local: bool) -> Reader:
    """Return a reader; with `fetch` it fetches through a fleet, with `local` a private one."""
    from klinefleet.workers.reader.reader import Reader

    if not fetch:
        return Reader(command_settings().store_url)
    from klinefleet.tasks.client.fetcher import FleetFetcher

    handle_sigterm_as_ctrl_c()
    with on_refusal("nothing was read"):
        services = stack.enter_context(fleet_services(local=local))
    start = (lambda queues: stack.enter_context(private_fleet(services, queues))) if local else None
    return Reader(services.settings.store_url, fetcher=FleetFetcher(services, start))


def _check_query_options(options: dict[str, Any], view: View) -> None:
    """Raise RequestError for options that --sql cannot be combined with."""
    if given := [name for name in _ROW_OPTIONS if options[name]]:
        option = f"--{given[0].replace('_', '-')}"
        raise RequestError(f"--sql cannot be combined with {option}: the query selects the rows")
    if view.describe:
        raise RequestError("--sql cannot be combined with --describe; use SUMMARIZE SELECT …")


def _run_query(sql: str, files: Iterable[Path]) -> Generator[pl.DataFrame]:
    """Return the query's result in parts."""
    from klinefleet.workers.reader.sql import run_query

    return run_query(command_settings().store_url, sql, files)


def _check_target(to: str | None, form: str | None, view: View) -> None:
    """Raise RequestError if the options of the output contradict each other."""
    from klinefleet.tasks.cli.output.row_writer import parse_format

    if to is not None:
        parse_format(to, form)
        if view.is_requested:
            raise RequestError(
                "--to cannot be combined with --head, --tail or --describe: it writes all rows"
            )
    elif form is not None:
        raise RequestError(f"--format {form} needs --to -")


def _output(
    rows: pl.LazyFrame | Iterable[pl.DataFrame], view: View, to: str | None, form: str | None
) -> None:
    """Write the rows to the target, or show some of them."""
    import polars as pl

    from klinefleet.tasks.cli.output import row_table, row_writer

    if to is None:
        width = row_table.screen_width()
        if view.describe:
            assert isinstance(rows, pl.LazyFrame)
            click.echo(row_table.render_description(rows, width))
        else:
            shown = row_table.preview(rows, view.head, view.tail)
            click.echo(row_table.render_rows(shown, width))
        return
    parts = row_writer.read_in_parts(rows) if isinstance(rows, pl.LazyFrame) else rows
    if to == "-":
        row_writer.write_stdout(parts, row_writer.parse_format(to, form))
        return
    count, size = row_writer.write_file(parts, Path(to), row_writer.parse_format(to, form))
    click.echo(f"{count:,} rows, {size / 1e6:,.1f} MB: {to}", err=True)

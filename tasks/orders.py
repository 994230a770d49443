"""What has rows fetched: `klines download`, and the order that `klines verify --revisions` gives as well."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tasks import choose
from tasks.session import exchange_ms, fleet, hear_sigterm, private_crew
from workers.errors import RequestError
from workers.model import Series
from workers.toolbox import Toolbox

if TYPE_CHECKING:
    from tasks.crew import Crew
    from tasks.request import Request

F = TypeVar("F", bound=Callable[..., Any])


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


#: Which symbols are meant.
symbols = options(
    click.option("--symbols", help="Symbols, separated by commas: BTCUSDT,ETHUSDT."),
    click.option(
        "--symbols-file",
        type=click.Path(path_type=Path),
        help="A CSV with a column symbol or binance_symbol, or one symbol a line.",
    ),
    click.option("--top", type=click.IntRange(min=1), help="Only the first N symbols of the file."),
    click.option("--all", "every", is_flag=True, help="Every symbol that the market has or had."),
    click.option("--quote", help="With --all: only symbols of this quote asset, like USDT."),
    click.option(
        "--status", type=click.Choice(["trading", "all"]), default="all", show_default=True, help="With --all: which."
    ),
    click.option("--skip-unknown", is_flag=True, help="Leave out symbols that nobody knows, instead of ending."),
)
#: How the command goes about it.
how = options(
    click.option("--local", is_flag=True, help="Start a private Redis and worker for this one command."),
    click.option("--detach", is_flag=True, help="Queue the run, print its id and return."),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
)


@click.command()
@click.option("--market", required=True, help="spot, um (USD-M futures) or cm (COIN-M futures).")
@symbols
@click.option(
    "--kind",
    default="klines",
    show_default=True,
    help="klines, markPriceKlines, indexPriceKlines (by pair), premiumIndexKlines or fundingRate.",
)
@click.option("--interval", help="1s (spot only), 1m (the default), 3m … 1d, 3d, 1w, 1M.")
@click.option(
    "--start", default="2017-01-01", help="First open time, UTC: 2024-01-01; each symbol's own where it is not given."
)
@click.option("--end", help="End, exclusive, UTC; now where it is not given.")
@click.option(
    "--source",
    default="auto",
    show_default=True,
    help="auto: monthly and daily files of the archive where they are sooner, REST for the rest; archive; rest.",
)
@click.option("--dry-run", is_flag=True, help="Tell files, calls, weight, bytes and minutes, and why; fetch nothing.")
@how
def download(start: str, end: str | None, source: str, dry_run: bool, **options: Any) -> None:
    """Fetch every row of some symbols and a time that is not held yet.

    What is held already is not fetched again, so the same command goes on where a broken one ended, and keeps
    a lake current when it is repeated. Ctrl-C cancels the run; what was fetched by then stays.
    """
    order(options, start=start, end=end, source=source, dry_run=dry_run)


def order(
    options: dict[str, Any], *, start: str, end: str | None, source: str, dry_run: bool = False, revise: bool = False
) -> None:
    """Check what was asked for, have it fetched and show it to its end; nothing is queued where it makes no sense."""
    from tasks.symbols import wish_of

    local, detach, as_json = options["local"], options["detach"], options["as_json"]
    if local and detach:
        raise RequestError("--local ends its worker with the command, so --detach cannot go with it")
    market = choose.market_of(options["market"])
    kind = choose.kind_of(market, options["kind"])
    interval = choose.interval_of(market, kind, options["interval"])
    mode = choose.mode_of(source)
    named = ("symbols", "symbols_file", "top", "every")
    narrowed = {name: options[name] for name in ("quote", "status", "skip_unknown")}
    wish = wish_of(*(options[name] for name in named), **narrowed)
    with ExitStack() as stack:
        tools = stack.enter_context(fleet(local=local))
        choose.check_redis(tools)
        choose.check_store(tools)
        queues, crew = choose.queues_of(market, kind, mode), None
        if local and not dry_run:
            crew = stack.enter_context(private_crew(tools, queues))
        choose.asked(tools, market)
        now_ms = exchange_ms(tools, market)
        span = choose.range_of(interval, start, end, now_ms=now_ms)
        request, notes = choose.request_of(tools, market, kind, interval, wish, span, mode, revise)
        if dry_run:
            _show_estimate(tools, request, as_json)
            return
        if not local and not detach:
            choose.check_workers(tools, queues)
        run = _send(tools, request, notes)
        if detach:
            click.echo(json.dumps({"run": run}) if as_json else run)
            return
        sys.exit(_follow(tools, run, as_json, crew))


def _send(tools: Toolbox, request: Request, notes: dict[str, str]) -> str:
    from tasks.runs.records import Level, Record
    from tasks.runs.store import Runs

    runs = Runs(tools.redis)
    run = runs.create(request)
    series = (Series(request.market, request.kind, request.interval, symbol) for symbol in notes)
    runs.record(run, *(Record(Level.NOTE, note, of) for of, note in zip(series, notes.values(), strict=True)))
    return run


def _follow(tools: Toolbox, run: str, as_json: bool, crew: Crew | None) -> int:
    """Show a run to its end and return the exit code; Ctrl-C and SIGTERM cancel it."""
    from tasks.runs.progress import State
    from tasks.runs.store import Runs
    from tasks.summary import summary
    from tasks.watch import follow

    hear_sigterm()
    try:
        progress = follow(tools, run, crew.tend if crew else lambda: None)
    except KeyboardInterrupt:
        Runs(tools.redis).end(run, State.CANCELLED)
        click.echo("cancelled: what was fetched is kept, the same command goes on from there", err=True)
        return 1
    told = summary(tools, progress)
    click.echo(json.dumps(told.facts(), ensure_ascii=False) if as_json else told.text())
    return 0 if progress.state is State.COMPLETE else 1


def _show_estimate(tools: Toolbox, request: Request, as_json: bool) -> None:
    from tasks.estimate import estimate

    told = estimate(tools, request, lambda text: click.echo(text, err=True))
    click.echo(json.dumps(told.facts()) if as_json else told.text())

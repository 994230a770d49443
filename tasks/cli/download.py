"""`klines download`, and the queueing of a run that `klines verify --revisions` uses too."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from klinefleet.tasks.cli.options import (
    end_option,
    interval_option,
    kind_option,
    market_option,
    run_options,
    start_option,
    symbol_options,
)
from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import (
    exchange_ms,
    fleet_services,
    handle_sigterm_as_ctrl_c,
    private_fleet,
)
from klinefleet.tasks.requests import build
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.workers.domain import parsing
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.series import Series
from klinefleet.workers.services import Services

if TYPE_CHECKING:
    from klinefleet.tasks.fleet.supervisor import Supervisor
    from klinefleet.tasks.requests.request import Request

#: Before the exchange opened: each symbol is then fetched from its first candle.
DEFAULT_START = "2017-01-01"


@click.command()
@market_option(required=True)
@symbol_options
@kind_option(default=DEFAULT_KIND.name, show_default=True)
@interval_option(show_default="1m")
@start_option(default=DEFAULT_START, show_default="each symbol's first candle")
@end_option(show_default="now")
@click.option(
    "--source",
    metavar="SOURCE",
    default="auto",
    show_default=True,
    help="Source: archive (monthly and daily files), rest, or auto, the faster one for each part.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and its cost; fetch nothing.")
@run_options
def download(start: str, end: str | None, source: str, dry_run: bool, **options: Any) -> None:
    """Fetch candles that the lake does not hold yet.

    Held candles are not fetched again: the same command continues an interrupted download, and
    repeated it keeps the lake current. Ctrl-C cancels the run; fetched data is kept.

    \b
      klines download --market um --symbols BTCUSDT,ETHUSDT --start 2026-01-01
      klines download --market spot --all --quote USDT --interval 1h --dry-run
    """
    submit(options, start=start, end=end, source=source, dry_run=dry_run)


def submit(
    options: dict[str, Any],
    *,
    start: str,
    end: str | None,
    source: str,
    dry_run: bool = False,
    revise: bool = False,
) -> None:
    """Queue the run that the options describe, and show it until it ends.

    With --detach, print its id instead; with `dry_run`, its cost. A RequestError says that nothing
    was queued.
    """
    detach, as_json = options["detach"], options["as_json"]
    with ExitStack() as stack:
        with on_refusal("nothing was queued"):
            services, supervisor, request, notes = _prepare(
                stack, options, start, end, source, dry_run=dry_run, revise=revise
            )
            if dry_run:
                _show_estimate(services, request, as_json)
                return
            run = _create(services, request, notes)
        if detach:
            click.echo(json.dumps({"run": run}) if as_json else run)
            return
        sys.exit(_follow(services, run, as_json, supervisor))


def _prepare(
    stack: ExitStack,
    options: dict[str, Any],
    start: str,
    end: str | None,
    source: str,
    *,
    dry_run: bool,
    revise: bool,
) -> tuple[Services, Supervisor | None, Request, dict[str, str]]:
    """Check everything before a run is queued.

    Returns the services, the supervisor of a --local run, the request, and a note for each symbol
    that was left out. RequestError if anything is wrong or missing.
    """
    from klinefleet.tasks.requests.symbols import parse_selection

    local, detach = options["local"], options["detach"]
    if local and detach:
        raise RequestError("--local cannot be combined with --detach")
    market = parsing.parse_market(options["market"])
    kind = parsing.parse_kind(market, options["kind"])
    interval = parsing.parse_interval(market, kind, options["interval"])
    mode = build.parse_source(source)
    selection = parse_selection(
        options["symbols"],
        options["symbols_file"],
        options["top"],
        options["all"],
        quote=options["quote"],
        status=options["status"],
        skip_unknown=options["skip_unknown"],
    )
    services = stack.enter_context(fleet_services(local=local))
    preflight.check_redis(services)
    preflight.check_store(services)
    if not dry_run:
        preflight.check_lake(services)
        preflight.check_same_store(services)
    queues, supervisor = preflight.required_queues(market, kind, mode), None
    if local and not dry_run:
        supervisor = stack.enter_context(private_fleet(services, queues))
    preflight.load_exchange_info(services, market, mode)
    span = build.parse_range(kind, interval, start, end, now_ms=exchange_ms(services, market, mode))
    request, notes = preflight.build_request(
        services, market, kind, interval, selection, span, mode, revise
    )
    if not (dry_run or local or detach):
        preflight.check_workers(services, queues)
    return services, supervisor, request, notes


def _create(services: Services, request: Request, notes: dict[str, str]) -> str:
    """Queue a run, with its notes of symbols that were left out, and return its id."""
    from klinefleet.tasks.runs.records import Level, Record
    from klinefleet.tasks.runs.store import Runs

    group = (request.market, request.kind, request.interval)
    records = [Record(Level.NOTE, note, Series(*group, name)) for name, note in notes.items()]
    return Runs(services.redis).create(request, services.own_store(), records)


def _follow(services: Services, run: str, as_json: bool, supervisor: Supervisor | None) -> int:
    """Show a run until it ends, and return the exit code; Ctrl-C and SIGTERM cancel it."""
    from klinefleet.tasks.client.follow import follow
    from klinefleet.tasks.planning.ending import cancel_run
    from klinefleet.tasks.runs.progress import State
    from klinefleet.tasks.runs.summary import summarize

    handle_sigterm_as_ctrl_c()
    try:
        progress = follow(services, run, supervisor.restart_dead if supervisor else lambda: None)
    except KeyboardInterrupt:
        cancel_run(services, run)
        click.echo(
            "cancelled; fetched data is kept, and the same command continues from there", err=True
        )
        return 1
    result = summarize(services, progress)
    click.echo(json.dumps(result.facts(), ensure_ascii=False) if as_json else result.text())
    return 0 if progress.state is State.COMPLETE else 1


def _show_estimate(services: Services, request: Request, as_json: bool) -> None:
    from klinefleet.tasks.planning.estimate import estimate

    result = estimate(services, request, lambda text: click.echo(text, err=True))
    click.echo(json.dumps(result.facts()) if as_json else result.text())

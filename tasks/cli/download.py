"""What has rows fetched: `klines download`, and the order that `klines verify --revisions` gives as
well.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import exchange_ms, fleet_services, hear_sigterm, private_fleet
from klinefleet.tasks.requests import build
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.series import Series
from klinefleet.workers.services import Services

if TYPE_CHECKING:
    from klinefleet.tasks.fleet.supervisor import Supervisor
    from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.cli.options import run_options, symbol_options


@click.command()
@click.option("--market", required=True, help="spot, um (USD-M futures) or cm (COIN-M futures).")
@symbol_options
@click.option(
    "--kind",
    default="klines",
    show_default=True,
    help="klines, markPriceKlines, indexPriceKlines (by pair), premiumIndexKlines or fundingRate.",
)
@click.option("--interval", help="1s (spot only), 1m (the default), 3m … 1d, 3d, 1w, 1M.")
@click.option(
    "--start",
    default="2017-01-01",
    help="First open time, UTC: 2024-01-01; each symbol's own where it is not given.",
)
@click.option("--end", help="End, exclusive, UTC; now where it is not given.")
@click.option(
    "--source",
    default="auto",
    show_default=True,
    help="auto: monthly and daily files of the archive where they are sooner, REST for the rest; "
    "archive; rest.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Tell files, calls, weight, bytes and minutes, and why; fetch nothing.",
)
@run_options
def download(start: str, end: str | None, source: str, dry_run: bool, **options: Any) -> None:
    """Fetch every row of some symbols and a time that is not held yet.

    What is held already is not fetched again, so the same command goes on where a broken one ended,
    and keeps a lake current when it is repeated. Ctrl-C cancels the run; what was fetched by then
    stays.
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
    """Check what was asked for, have it fetched and show it to its end; nothing is queued where it
    makes no sense.
    """
    from klinefleet.tasks.requests.symbols import parse_selection

    local, detach, as_json = options["local"], options["detach"], options["as_json"]
    if local and detach:
        raise RequestError(
            "--local ends its worker with the command, so --detach cannot go with it"
        )
    market = build.market_of(options["market"])
    kind = build.kind_of(market, options["kind"])
    interval = build.interval_of(market, kind, options["interval"])
    mode = build.mode_of(source)
    named = ("symbols", "symbols_file", "top", "every")
    narrowed = {name: options[name] for name in ("quote", "status", "skip_unknown")}
    selection = parse_selection(*(options[name] for name in named), **narrowed)
    with ExitStack() as stack:
        services = stack.enter_context(fleet_services(local=local))
        preflight.check_redis(services)
        preflight.check_store(services)
        queues, supervisor = preflight.queues_of(market, kind, mode), None
        if local and not dry_run:
            supervisor = stack.enter_context(private_fleet(services, queues))
        preflight.load_exchange_info(services, market)
        now_ms = exchange_ms(services, market)
        span = build.range_of(kind, interval, start, end, now_ms=now_ms)
        request, notes = preflight.request_of(
            services, market, kind, interval, selection, span, mode, revise
        )
        if dry_run:
            _show_estimate(services, request, as_json)
            return
        if not local and not detach:
            preflight.check_workers(services, queues)
        run = _send(services, request, notes)
        if detach:
            click.echo(json.dumps({"run": run}) if as_json else run)
            return
        sys.exit(_follow(services, run, as_json, supervisor))


def _send(services: Services, request: Request, notes: dict[str, str]) -> str:
    from klinefleet.tasks.runs.records import Level, Record
    from klinefleet.tasks.runs.store import Runs

    runs = Runs(services.redis)
    run = runs.create(request)
    series = (Series(request.market, request.kind, request.interval, symbol) for symbol in notes)
    runs.record(
        run,
        *(Record(Level.NOTE, note, of) for of, note in zip(series, notes.values(), strict=True)),
    )
    return run


def _follow(services: Services, run: str, as_json: bool, supervisor: Supervisor | None) -> int:
    """Show a run to its end and return the exit code; Ctrl-C and SIGTERM cancel it."""
    from klinefleet.tasks.client.follow import follow
    from klinefleet.tasks.runs.progress import State
    from klinefleet.tasks.runs.store import Runs
    from klinefleet.tasks.runs.summary import summarize

    hear_sigterm()
    try:
        progress = follow(services, run, supervisor.restart_dead if supervisor else lambda: None)
    except KeyboardInterrupt:
        Runs(services.redis).end(run, State.CANCELLED)
        click.echo(
            "cancelled: what was fetched is kept, the same command goes on from there", err=True
        )
        return 1
    told = summarize(services, progress)
    click.echo(json.dumps(told.facts(), ensure_ascii=False) if as_json else told.text())
    return 0 if progress.state is State.COMPLETE else 1


def _show_estimate(services: Services, request: Request, as_json: bool) -> None:
    from klinefleet.tasks.planning.estimate import estimate

    told = estimate(services, request, lambda text: click.echo(text, err=True))
    click.echo(json.dumps(told.facts()) if as_json else told.text())

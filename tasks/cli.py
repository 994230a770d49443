"""The `klines` command: results to stdout, progress and errors to stderr; exit 0 complete, 1 incomplete, 2 nonsense."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tasks import choose
from workers.errors import FleetError, RequestError, SettingsError
from workers.private_redis import answers, private_redis, shared_redis, shared_url
from workers.settings import Settings
from workers.toolbox import Toolbox

if TYPE_CHECKING:
    from tasks.request import Request


class Commands(click.Group):
    """Turns our own errors into one line each."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (RequestError, SettingsError) as error:
            click.echo(f"klines: {error}", err=True)
            ctx.exit(2)
        except FleetError as error:
            click.echo(f"klines: {error.reason}", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Download Binance klines, all of them, once and correct, with a fleet of workers.

    \b
    First steps (without --local, start `klines worker` in another terminal):
      klines download --local --market spot --symbols BTCUSDT --interval 1m --start 2024-01-01 --end 2024-02-01
    """


@main.command()
@click.option("--market", required=True, help="spot, um (USD-M futures) or cm (COIN-M futures).")
@click.option("--symbols", help="Symbols, separated by commas: BTCUSDT,ETHUSDT.")
@click.option(
    "--symbols-file",
    type=click.Path(path_type=Path),
    help="A CSV with a column symbol or binance_symbol, or one symbol a line.",
)
@click.option("--top", type=click.IntRange(min=1), help="Only the first N symbols of the file.")
@click.option("--all", "every", is_flag=True, help="Every symbol of the market.")
@click.option("--interval", default="1m", show_default=True, help="1s (spot only), 1m, 3m … 1d, 3d, 1w, 1M.")
@click.option("--start", required=True, help="First open time, UTC: 2024-01-01 or 2024-01-01T12:00.")
@click.option("--end", help="End, exclusive, UTC; now where it is not given.")
@click.option("--local", is_flag=True, help="Start a private Redis and worker for this one command.")
@click.option("--detach", is_flag=True, help="Queue the run, print its id and return.")
@click.option("--dry-run", is_flag=True, help="Tell calls, weight and minutes; fetch nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def download(
    market: str,
    symbols: str | None,
    symbols_file: Path | None,
    top: int | None,
    every: bool,
    interval: str,
    start: str,
    end: str | None,
    local: bool,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch every kline of some symbols and a time that is not held yet.

    What is held already is not fetched again, so the same command goes on where a broken one ended, and keeps
    a lake current when it is repeated. Ctrl-C cancels the run; what was fetched by then stays.
    """
    if local and detach:
        raise RequestError("--local ends its worker with the command, so --detach cannot go with it")
    where = choose.market_of(market)
    candle = choose.interval_of(where, interval)
    named = choose.named_symbols(symbols, symbols_file, top)
    if (named is None) is not every:
        raise RequestError("say which symbols: --symbols, --symbols-file or --all; nothing was queued")
    with _fleet(local) as (tools, stack):
        choose.check_redis(tools)
        choose.check_store(tools)
        crew = _crew(tools, where, stack) if local and not dry_run else None
        choose.asked(tools, where)
        span = choose.range_of(candle, start, end, now_ms=_exchange_ms(tools, where))
        request = choose.request_of(tools, where, candle, named, span)
        if dry_run:
            _show_estimate(tools, request, as_json)
            return
        if not local and not detach:
            choose.check_workers(tools, request.pool)
        run = _send(tools, request)
        if detach:
            click.echo(json.dumps({"run": run}) if as_json else run)
            return
        sys.exit(_follow(tools, run, as_json, crew))


@main.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(run: str | None, as_json: bool) -> None:
    """Tell how a run stands; without RUN, of all that are under way, or of the last one."""
    from tasks.progress import Runs
    from tasks.watch import status_line, summary

    with _fleet(local=False) as (tools, _):
        choose.check_redis(tools)
        runs = Runs(tools.redis)
        chosen = [run] if run else runs.active() or [name for name in [runs.newest()] if name]
        if not chosen:
            click.echo("no run yet", err=True)
        for name in chosen:
            progress = runs.progress(name)
            if progress is None:
                raise RequestError(f"no run {name!r} is known; `klines status` lists those under way")
            if as_json:
                click.echo(json.dumps(summary(tools, progress).facts(), ensure_ascii=False))
            elif progress.state.has_ended:
                click.echo(f"run {name}\n{summary(tools, progress).text()}")
            else:
                click.echo(f"run {name} {progress.state}: {status_line(tools, progress)}")


@main.command()
@click.argument("run")
def cancel(run: str) -> None:
    """End a run: what is not begun is dropped, what was fetched stays and is not fetched again."""
    from tasks.progress import Runs, State

    with _fleet(local=False) as (tools, _):
        choose.check_redis(tools)
        state = Runs(tools.redis).state(run)
        if state is None:
            raise RequestError(f"no run {run!r} is known; `klines status` lists those under way")
        if not state.has_ended:
            Runs(tools.redis).end(run, State.CANCELLED)
        click.echo(f"run {run} is {Runs(tools.redis).state(run)}")


@main.command()
@click.option("--queues", help="Only these, separated by commas: plan, rest.spot, rest.futures, compact.")
@click.option("--loglevel", default="INFO", show_default=True, help="DEBUG, INFO, WARNING or ERROR.")
def worker(queues: str | None, loglevel: str) -> None:
    """Work for every run until told to stop (Ctrl-C): one process per queue. Start more on any machine."""
    from tasks.lanes import Crew, lanes_of

    settings = Settings.load()
    lanes = lanes_of(queues)
    with ExitStack() as stack:
        if settings.redis_url is None:
            settings = replace(settings, redis_url=stack.enter_context(shared_redis()))
        elif not answers(settings.redis_url):
            raise RequestError(f"no Redis answers at {choose.shown(settings.redis_url)}; no worker was started")
        _log(loglevel)
        logging.getLogger(__name__).info(
            "serving %s, Redis at %s, store %s",
            ", ".join(lane.queue for lane in lanes),
            choose.shown(settings.redis_url or ""),
            settings.store_url,
        )
        Crew(settings, lanes, loglevel=loglevel).watch()


@main.command()
@click.option("--wait", default=0, help="Seconds to wait until every queue is served.")
def workers(wait: int) -> None:
    """List the queues that are served and by how many processes; exit 1 where one is served by none."""
    import time

    from tasks.lanes import LANES
    from workers.heart import living

    ends = time.monotonic() + wait
    while True:
        try:
            with _fleet(local=False) as (tools, _):
                choose.check_redis(tools)
                served = [name.partition("@")[0] for name in living(tools.redis)]
        except RequestError:
            if time.monotonic() > ends:
                raise
            served = []
        if all(lane.queue in served for lane in LANES) or time.monotonic() > ends:
            break
        time.sleep(0.1)
    for lane in LANES:
        click.echo(f"{lane.queue:<14} {served.count(lane.queue)}")
    sys.exit(0 if all(lane.queue in served for lane in LANES) else 1)


@main.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=5555, show_default=True, type=click.IntRange(1, 65535))
def flower(address: str, port: int) -> None:
    """Watch tasks and workers in a browser. Beyond loopback only with FLOWER_BASIC_AUTH=user:password set."""
    if address not in ("127.0.0.1", "::1", "localhost") and not os.environ.get("FLOWER_BASIC_AUTH"):
        raise RequestError(
            f"Flower listens beyond this machine ({address}) only with FLOWER_BASIC_AUTH=user:password set"
        )
    from workers.app import broker_url

    with _fleet(local=False) as (tools, _):
        choose.check_redis(tools)
        url = broker_url(tools.settings.redis_url or "")
    click.echo(f"Flower: http://{address}:{port}", err=True)
    arguments = [f"--address={address}", f"--port={port}", "--max-tasks=10000", "--logging=warning"]
    arguments.append("--tasks-columns=name,args,state,received,runtime,worker")
    python = [sys.executable, "-m", "celery", "-A", "workers.app:app", "--quiet"]
    os.environ["CELERY_BROKER_URL"] = url
    os.execv(sys.executable, [*python, "flower", *arguments])


@contextmanager
def _fleet(local: bool) -> Iterator[tuple[Toolbox, ExitStack]]:
    """Yield what a command works with; `local` brings a private Redis of its own."""
    settings = Settings.load()
    _log("WARNING")
    with ExitStack() as stack:
        if local:
            settings = replace(settings, redis_url=stack.enter_context(private_redis()))
        elif settings.redis_url is None:
            if not answers(shared_url()):
                raise RequestError(
                    "no Redis: start `klines worker` (it brings one), use --local, or set KLINES_REDIS_URL; "
                    "nothing was queued"
                )
            settings = replace(settings, redis_url=shared_url())
        yield Toolbox(settings), stack


def _crew(tools: Toolbox, market: Any, stack: ExitStack) -> Any:
    """Start the lanes that a run on this market needs; they stop with the command."""
    from tasks.lanes import Crew, lanes_of
    from workers.binance.markets import RULES
    from workers.queues import COMPACT, PLAN, rest_queue

    crew = Crew(tools.settings, lanes_of(f"{PLAN},{rest_queue(RULES[market].pool)},{COMPACT}"), loglevel="WARNING")
    stack.callback(crew.stop)
    return crew


def _exchange_ms(tools: Toolbox, market: Any) -> int:
    from workers.heart import now_ms

    return now_ms(tools.redis) + (tools.budget(market).state().offset_ms or 0)


def _send(tools: Toolbox, request: Request) -> str:
    from tasks.progress import Runs

    return Runs(tools.redis).create(request)


def _follow(tools: Toolbox, run: str, as_json: bool, crew: Any) -> int:
    """Show a run to its end and return the exit code; Ctrl-C and SIGTERM cancel it."""
    from tasks.progress import Runs, State
    from tasks.watch import follow, summary

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
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

    told = estimate(tools, request)
    click.echo(json.dumps(told.facts()) if as_json else told.text())


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )

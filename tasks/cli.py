"""The `klines` command: results to stdout, progress and errors to stderr; exit 0 complete, 1 incomplete, 2 nonsense.

What fetches is in orders.py, what checks in verify_cli.py, the catalog's commands are in catalog_cli.py, Flower is in
flower_cli.py; this file has what looks after the fleet.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from tasks import choose
from tasks.catalog_cli import catalog
from tasks.coverage_cli import coverage
from tasks.flower_cli import flower
from tasks.orders import download
from tasks.read_cli import read
from tasks.session import fleet
from tasks.verify_cli import verify
from workers.errors import FleetError, RequestError, SettingsError
from workers.log import log_to_stderr
from workers.private_redis import answers, shared_redis
from workers.secrets import mask
from workers.settings import Settings


class Commands(click.Group):
    """Turns errors into one line each: our own, and what was typed that is no command or option."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **(options | {"standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.ClickException as error:
            click.echo(f"klines: {' '.join(error.format_message().split())}", err=True)
            sys.exit(2)
        except click.Abort:
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (RequestError, SettingsError) as error:
            click.echo(f"klines: {mask(str(error))}", err=True)
            ctx.exit(2)
        except FleetError as error:
            click.echo(f"klines: {mask(error.reason)}", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Download Binance klines, all of them, once and correct, with a fleet of workers.

    \b
    First steps (without --local, start `klines worker` in another terminal):
      klines download --local --market spot --symbols BTCUSDT --interval 1m --start 2024-01-01 --end 2024-02-01
    """


@main.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(run: str | None, as_json: bool) -> None:
    """Tell how a run stands; without RUN, of all that are under way, or of the last one."""
    from tasks.runs.store import Runs
    from tasks.summary import summary
    from tasks.watch import status_line

    with fleet() as tools:
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
    from tasks.runs.progress import State
    from tasks.runs.store import Runs

    with fleet() as tools:
        choose.check_redis(tools)
        state = Runs(tools.redis).state(run)
        if state is None:
            raise RequestError(f"no run {run!r} is known; `klines status` lists those under way")
        if not state.has_ended:
            Runs(tools.redis).end(run, State.CANCELLED)
        click.echo(f"run {run} is {Runs(tools.redis).state(run)}")


@main.command()
@click.option("--queues", help="Only these, separated by commas; `klines workers` lists all.")
@click.option(
    "--loglevel",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="What is logged: at DEBUG a line for every window, at INFO runs, bans and failures.",
)
def worker(queues: str | None, loglevel: str) -> None:
    """Work for every run until told to stop (Ctrl-C): one process per queue. Start more on any machine."""
    from tasks.crew import Crew
    from tasks.lanes import lanes_of

    settings = Settings.load()
    lanes = lanes_of(queues)
    with ExitStack() as stack:
        if settings.redis_url is None:
            settings = replace(settings, redis_url=stack.enter_context(shared_redis()))
        elif not answers(settings.redis_url):
            raise RequestError(f"no Redis answers at {choose.shown(settings.redis_url)}; no worker was started")
        log_to_stderr(loglevel, settings.log)
        crew = Crew(settings, lanes, loglevel=loglevel)
        logging.getLogger(__name__).info(
            "serving %s, Redis at %s, store %s",
            ", ".join(lane.queue for lane in lanes),
            choose.shown(settings.redis_url or ""),
            settings.store_url,
        )
        crew.watch()


@main.command()
def beat() -> None:
    """Send what is due by the clock, until told to stop: each market's catalog, daily. Run one in a fleet."""
    from tasks.schedule import beat
    from workers.app import connect

    with fleet() as tools:
        choose.check_redis(tools)
        settings = tools.settings
    connect(settings)
    log_to_stderr("INFO", settings.log)
    beat()


@main.command()
@click.option("--wait", default=0, help="Seconds to wait until every queue is served.")
def workers(wait: int) -> None:
    """List the queues that are served and by how many processes; exit 1 where one is served by none.

    For queues that spend weight also what is left of it at each public address.
    """
    import time

    from tasks.fleet_view import lines, served

    ends = time.monotonic() + wait
    while True:
        try:
            with fleet() as tools:
                choose.check_redis(tools)
                counts = served(tools)
                if all(counts.values()) or time.monotonic() > ends:
                    click.echo("\n".join(lines(tools, counts)))
                    sys.exit(0 if all(counts.values()) else 1)
        except RequestError:
            if time.monotonic() > ends:
                raise
        time.sleep(0.1)


main.add_command(download)
main.add_command(verify)
main.add_command(read)
main.add_command(catalog)
main.add_command(coverage)
main.add_command(flower)

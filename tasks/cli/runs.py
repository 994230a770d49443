"""`klines status` and `klines cancel`."""

from __future__ import annotations

import json

import click

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import fleet_services
from klinefleet.workers.domain.errors import RequestError


@click.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(run: str | None, as_json: bool) -> None:
    """Tell how a run stands; without RUN, of all that are under way, or of the last one."""
    from klinefleet.tasks.client.follow import status_line
    from klinefleet.tasks.runs.store import Runs
    from klinefleet.tasks.runs.summary import summarize

    with fleet_services() as services:
        preflight.check_redis(services)
        runs = Runs(services.redis)
        chosen = [run] if run else runs.active() or [name for name in [runs.newest()] if name]
        if not chosen:
            click.echo("no run yet", err=True)
        for name in chosen:
            progress = runs.progress(name)
            if progress is None:
                raise RequestError(
                    f"no run {name!r} is known; `klines status` lists those under way"
                )
            if as_json:
                click.echo(json.dumps(summarize(services, progress).facts(), ensure_ascii=False))
            elif progress.state.has_ended:
                click.echo(f"run {name}\n{summarize(services, progress).text()}")
            else:
                click.echo(f"run {name} {progress.state}: {status_line(services, progress)}")


@click.command()
@click.argument("run")
def cancel(run: str) -> None:
    """End a run: what is not begun is dropped, what was fetched stays and is not fetched again."""
    from klinefleet.tasks.runs.progress import State
    from klinefleet.tasks.runs.store import Runs

    with fleet_services() as services:
        preflight.check_redis(services)
        state = Runs(services.redis).state(run)
        if state is None:
            raise RequestError(f"no run {run!r} is known; `klines status` lists those under way")
        if not state.has_ended:
            Runs(services.redis).end(run, State.CANCELLED)
        click.echo(f"run {run} is {Runs(services.redis).state(run)}")

"""`klines status` and `klines cancel`."""

from __future__ import annotations

import json

import click

from klinefleet.tasks.cli.options import json_option
from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import fleet_services
from klinefleet.workers.domain.errors import RequestError


@click.command()
@click.argument("run", required=False)
@json_option
def status(run: str | None, as_json: bool) -> None:
    """Show a run's progress.

    Without RUN: all active runs, or else the latest.
    """
    from klinefleet.tasks.client.follow import status_line
    from klinefleet.tasks.runs.report_file import with_records
    from klinefleet.tasks.runs.store import Runs
    from klinefleet.tasks.runs.summary import summarize

    with fleet_services() as services:
        preflight.check_redis(services)
        runs = Runs(services.redis)
        names = [run] if run else runs.active() or [name for name in [runs.newest()] if name]
        if not names:
            click.echo("no runs yet", err=True)
        for name in names:
            progress = runs.progress(name)
            if progress is None:
                raise _unknown(name)
            progress = with_records(services.store, progress)
            if as_json:
                click.echo(json.dumps(summarize(services, progress).facts(), ensure_ascii=False))
            elif progress.state.has_ended:
                click.echo(f"run {name}\n{summarize(services, progress).text()}")
            else:
                click.echo(f"run {name} {progress.state}: {status_line(services, progress)}")


@click.command()
@click.argument("run")
def cancel(run: str) -> None:
    """Cancel a run.

    What it has not begun is dropped. What it has fetched is kept, and is not fetched again.
    """
    from klinefleet.tasks.planning.ending import cancel_run
    from klinefleet.tasks.runs.store import Runs

    with fleet_services() as services:
        preflight.check_redis(services)
        runs = Runs(services.redis)
        state = runs.state(run)
        if state is None:
            raise _unknown(run)
        if not state.has_ended:
            cancel_run(services, run)
        click.echo(f"run {run} is {runs.state(run)}")


def _unknown(run: str) -> RequestError:
    return RequestError(f"no run {run!r}; `klines status` lists active runs")

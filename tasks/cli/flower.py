"""`klines flower`: Celery's Flower over our fleet, closed to whoever has no password."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import fleet_services
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.support.log import log_to_stderr
from klinefleet.workers.support.settings import Settings

PASSWORD = "FLOWER_BASIC_AUTH"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

#: Tasks and their ends that are remembered: about 2 KB each; at the spot budget's pace they are
#: some hours.
MOST_TASKS = 10_000
#: How often the state file is written while Flower runs, ms; it is also written at the end.
SAVED_EVERY_MS = 60_000
#: Workers that are gone stay in the table for so long, seconds: the names of containers change with
#: every upgrade.
GONE_FOR_S = 3600
#: What fits a screen: what it is about, how it stands, how long it took, who did it; why it failed
#: is on its own page.
COLUMNS = "name,args,state,received,runtime,worker"

#: Flower cuts arguments off at 400 pixels, in the middle of a window.
STYLE = b"<style>.overflow-auto { max-width: 34rem; }</style>"


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=5555, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps tasks over restarts.",
)
@click.option(
    "--control", is_flag=True, help="Let visitors stop workers, revoke tasks and send new ones."
)
def flower(address: str, port: int, state: Path | None, control: bool) -> None:
    """Watch tasks and workers in a browser.

    Beyond loopback only with FLOWER_BASIC_AUTH=user:password set.
    """
    Settings.load()  # what a .env file says of Flower is in the environment now
    _check(address, state)
    with fleet_services() as services:
        preflight.check_redis(services)
        settings = services.settings
    click.echo(f"Flower: http://{f'[{address}]' if ':' in address else address}:{port}", err=True)
    log_to_stderr("INFO", settings.log)
    _serve(settings, arguments(address, port, state=state, control=control))


def arguments(address: str, port: int, *, state: Path | None, control: bool) -> list[str]:
    """Return Flower's own options."""
    told = [
        f"--address={address}",
        f"--port={port}",
        f"--max_tasks={MOST_TASKS}",
        f"--tasks_columns={COLUMNS}",
    ]
    told += [f"--purge_offline_workers={GONE_FOR_S}", "--logging=none"]
    if state:
        told += [
            "--persistent=True",
            f"--db={state.absolute()}",
            f"--state_save_interval={SAVED_EVERY_MS}",
        ]
    return told if control else [*told, "--read_only=True"]


def _check(address: str, state: Path | None) -> None:
    password = os.environ.get(PASSWORD, "")
    if not password and address not in LOOPBACK:
        raise RequestError(
            f"Flower listens beyond this machine ({address}) only with {PASSWORD}=user:password set"
        )
    if password and not all(re.fullmatch("[^:]+:.+", entry) for entry in password.split(",")):
        raise RequestError(f"{PASSWORD} must be user:password, several separated by commas")
    if state and not os.access(state.absolute().parent, os.W_OK):
        raise RequestError(f"--state {state}: its folder is not there or cannot be written to")


def _serve(settings: Settings, options: list[str]) -> None:
    """Run Flower in this process until it is told to stop."""
    from klinefleet.workers.app import connect_as_library
    from klinefleet.workers.patches.flower_access import patch_flower

    patch_flower(STYLE)
    connect_as_library(settings).start(["--quiet", "flower", *options])

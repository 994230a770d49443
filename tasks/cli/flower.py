"""`klines flower`: Celery's Flower for this fleet, with a password beyond this machine."""

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

#: Tasks that Flower remembers, about 2 KB each: some hours at the pace of the spot budget.
MAX_TASKS = 10_000
#: How often the state file is written while Flower runs, ms; it is also written at the end.
SAVE_INTERVAL_MS = 60_000
#: How long workers that are gone stay in the table, seconds. Containers get new names with every
#: upgrade.
OFFLINE_WORKER_TTL_S = 3600
#: The columns that fit a screen; why a task failed is on its own page.
COLUMNS = "name,args,state,received,runtime,worker"

#: Flower cuts arguments off at 400 pixels, in the middle of a window's name.
STYLE = b"<style>.overflow-auto { max-width: 34rem; }</style>"


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Listen on this address.")
@click.option(
    "--port",
    default=5555,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Listen on this port.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep tasks in this file over restarts.",
)
@click.option(
    "--control", is_flag=True, help="Let visitors stop workers, revoke tasks and send new ones."
)
def flower(address: str, port: int, state: Path | None, control: bool) -> None:
    """Watch tasks and workers in a browser.

    To listen beyond this machine, set FLOWER_BASIC_AUTH=user:password.
    """
    Settings.load()  # puts the FLOWER_ variables of a .env file into the environment
    _check(address, state)
    with fleet_services() as services:
        preflight.check_redis(services)
        settings = services.settings
    click.echo(f"Flower: http://{f'[{address}]' if ':' in address else address}:{port}", err=True)
    log_to_stderr("INFO", settings.log)
    _serve(settings, arguments(address, port, state=state, control=control))


def arguments(address: str, port: int, *, state: Path | None, control: bool) -> list[str]:
    """Return Flower's own options."""
    options = [
        f"--address={address}",
        f"--port={port}",
        f"--max_tasks={MAX_TASKS}",
        f"--tasks_columns={COLUMNS}",
        f"--purge_offline_workers={OFFLINE_WORKER_TTL_S}",
        "--logging=none",
    ]
    if state:
        options += [
            "--persistent=True",
            f"--db={state.absolute()}",
            f"--state_save_interval={SAVE_INTERVAL_MS}",
        ]
    return options if control else [*options, "--read_only=True"]


def _check(address: str, state: Path | None) -> None:
    """Raise RequestError if the password is missing or malformed, or the state is not writable."""
    password = os.environ.get(PASSWORD, "")
    if not password and address not in LOOPBACK:
        raise RequestError(f"--address {address} needs {PASSWORD}=user:password to be set")
    if password and not all(re.fullmatch("[^:]+:.+", entry) for entry in password.split(",")):
        raise RequestError(f"{PASSWORD} must be user:password, several separated by commas")
    if state and not os.access(state.absolute().parent, os.W_OK):
        raise RequestError(f"--state {state}: its folder is missing or not writable")


def _serve(settings: Settings, options: list[str]) -> None:
    """Run Flower in this process until Ctrl-C or SIGTERM."""
    from klinefleet.workers.app import connect_as_library
    from klinefleet.workers.patches.flower_access import patch_flower

    patch_flower(STYLE)
    connect_as_library(settings).start(["--quiet", "flower", *options])

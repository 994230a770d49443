"""The `klines` command. Results go to stdout, progress and errors to stderr.

Exit codes: 0 complete, 1 incomplete or failed, 2 the request makes no sense (nothing was queued).
"""

from __future__ import annotations

import sys
from typing import Any

import click

from klinefleet.tasks.cli.catalog import catalog
from klinefleet.tasks.cli.coverage import coverage
from klinefleet.tasks.cli.download import download
from klinefleet.tasks.cli.fleet import beat, worker, workers
from klinefleet.tasks.cli.flower import flower
from klinefleet.tasks.cli.read import read
from klinefleet.tasks.cli.runs import cancel, status
from klinefleet.tasks.cli.verify import verify
from klinefleet.workers.domain.errors import FleetError, RequestError, SettingsError
from klinefleet.workers.support.masking import mask_secrets


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
            click.echo(f"klines: {mask_secrets(str(error))}", err=True)
            ctx.exit(2)
        except FleetError as error:
            click.echo(f"klines: {mask_secrets(error.reason)}", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Download Binance klines, all of them, once and correct, with a fleet of workers.

    \b
    First steps (without --local, start `klines worker` in another terminal):
      klines download --local --market spot --symbols BTCUSDT --interval 1m --start 2024-01-01 --end 2024-02-01
    """


for command in (
    download,
    verify,
    read,
    catalog,
    coverage,
    flower,
    status,
    cancel,
    worker,
    workers,
    beat,
):
    main.add_command(command)

"""The `klines` command. Results go to stdout, progress and errors to stderr.

Exit codes: 0 complete, 1 incomplete or failed, 2 a wrong request, of which nothing was done.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from redis import RedisError

from klinefleet.tasks.cli.catalog import catalog
from klinefleet.tasks.cli.coverage import coverage
from klinefleet.tasks.cli.download import download
from klinefleet.tasks.cli.fleet import beat, reopen, worker, workers
from klinefleet.tasks.cli.flower import flower
from klinefleet.tasks.cli.migrate import migrate
from klinefleet.tasks.cli.output.streams import guarded_streams
from klinefleet.tasks.cli.read import read
from klinefleet.tasks.cli.runs import cancel, status
from klinefleet.tasks.cli.verify import verify
from klinefleet.workers.coordination.redis_faults import describe
from klinefleet.workers.domain.errors import FleetError, RequestError, SettingsError
from klinefleet.workers.support.masking import mask_secrets, one_line, secrets_in


class Commands(click.Group):
    """Prints each error in one line, our own and Click's, and lists commands as they are added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, **options: Any) -> Any:
        with guarded_streams() as stdout_fault:
            code = self._exit_code(*args, **options)
            if fault := stdout_fault():
                click.echo(f"klines: {fault}; the output is incomplete, all else is done", err=True)
                code = code or 1
        sys.exit(code)

    def _exit_code(self, *args: Any, **options: Any) -> int:
        """Run the command and return its exit code, with its error printed."""
        try:
            code = super().main(*args, **(options | {"standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return 2
        except click.ClickException as error:
            _echo_error(" ".join(error.format_message().split()))
            return 2
        except click.Abort:
            return 1
        except SystemExit as error:
            code = error.code
        return code if isinstance(code, int) else 0

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (RequestError, SettingsError) as error:
            _echo_error(str(error))
            ctx.exit(2)
        except FleetError as error:
            _echo_error(error.reason)
            ctx.exit(1)
        except RedisError as error:
            _echo_error(describe(error))
            ctx.exit(1)


def _echo_error(text: str) -> None:
    click.echo(f"klines: {one_line(mask_secrets(text, secrets_in(os.environ)))}", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="klinefleet", message="klines %(version)s")
def main() -> None:
    """Download Binance candles with a fleet of workers, and read them from a lake of Parquet files.

    \b
    First steps (without --local once `klines worker` runs in another terminal):
      klines download --local --market spot --symbols BTCUSDT --start 2026-01-01
      klines read --market spot --symbols BTCUSDT --resample 1h
    """


for command in (
    download,
    status,
    cancel,
    read,
    coverage,
    verify,
    migrate,
    catalog,
    worker,
    workers,
    reopen,
    beat,
    flower,
):
    main.add_command(command)

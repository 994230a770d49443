"""`klines migrate`: rewrite a lake of format 1 in the format of this version."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from klinefleet.tasks.cli.options import json_option
from klinefleet.tasks.cli.output.reasons import reason_lines
from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import (
    fleet_services,
    handle_sigterm_as_ctrl_c,
    offline_services,
)
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.workers.domain.queues import COMPACT

if TYPE_CHECKING:
    from klinefleet.tasks.migration.rewrite import Migrated


@click.command()
@click.option("--local", is_flag=True, help="Rewrite it in this process, without Redis.")
@json_option
def migrate(local: bool, as_json: bool) -> None:
    """Rewrite a lake of an earlier version in this version's format.

    Such a lake can be read, but not written. Its monthly files become a file a year for candles of
    15m and longer and for funding, and a file a day for 1s. Each new file is read back and compared
    before the old ones are deleted. An interrupted migration goes on where it was; meanwhile
    `klines read` sees every row once, other programs may see some twice.

    A file that cannot be read is kept under damaged/, and its time is missing then: the next
    `klines download` fetches it again. The exit code is then 1.

    \b
      klines migrate --local
      klines migrate            (by the workers of `klines worker`)
    """
    from klinefleet.tasks.client import migrate_run
    from klinefleet.tasks.client.progress_bar import progress_display

    with ExitStack() as stack:
        with on_refusal("nothing was rewritten"):
            services = offline_services() if local else stack.enter_context(fleet_services())
            preflight.check_store(services)
            if not local:
                preflight.check_same_store(services)
            if not migrate_run.begin(services, is_local=local):
                _end(None, services.settings.store_url, as_json)
            if not local:
                preflight.check_workers(services, [COMPACT], "rewrite it here with --local")
                preflight.await_same_store(services)
        handle_sigterm_as_ctrl_c()
        with progress_display("migrating") as display:
            try:
                done = migrate_run.migrate(services, display, is_local=local)
            except KeyboardInterrupt:
                display.say("interrupted; the same command goes on from here")
                raise
    _end(done, services.settings.store_url, as_json)


def _end(done: Migrated | None, store_url: str, as_json: bool) -> None:
    """Print the result and exit; None where there was nothing to migrate."""
    is_whole = done is None or not (done.failed or done.set_aside)
    if as_json:
        click.echo(json.dumps(_facts(done, store_url)))
    elif done is None:
        click.echo(f"the lake at {store_url} is of this version's format: nothing to migrate")
    else:
        click.echo("\n".join(_lines(done, store_url)))
    sys.exit(0 if is_whole else 1)


def _facts(done: Migrated | None, store_url: str) -> dict[str, object]:
    return {
        "store": store_url,
        "partitions": done.partitions if done else 0,
        "written": done.written if done else 0,
        "rows": done.rows if done else 0,
        "set_aside": done.set_aside if done else {},
        "failed": done.failed if done else {},
    }


def _lines(done: Migrated, store_url: str) -> list[str]:
    """Return the result as text for people."""
    lines = [
        f"migrated the lake at {store_url}: {done.partitions:,} partitions with {done.rows:,} rows "
        f"are {done.written:,} now"
    ]
    lines += reason_lines("  SET ASIDE ", done.set_aside)
    if done.set_aside:
        lines.append("  their time is missing now: the same `klines download` fetches it again")
    lines += reason_lines("  FAILED ", done.failed)
    if done.failed:
        lines.append(
            "  what failed is as it was, and the lake is not writable yet: migrate it again"
        )
    return lines

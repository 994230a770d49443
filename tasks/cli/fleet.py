"""`klines worker`, `klines workers` and `klines beat`."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from dataclasses import replace

import click

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import fleet_services
from klinefleet.workers.coordination.private_redis import is_reachable, shared_redis
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.support.log import log_to_stderr
from klinefleet.workers.support.masking import mask_secrets
from klinefleet.workers.support.settings import Settings


@click.command()
@click.option("--queues", help="Only these, separated by commas; `klines workers` lists all.")
@click.option(
    "--loglevel",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="What is logged: at DEBUG a line for every window, at INFO runs, bans and failures.",
)
def worker(queues: str | None, loglevel: str) -> None:
    """Work for every run until told to stop (Ctrl-C): one process per queue.

    Start more on any machine.
    """
    from klinefleet.tasks.fleet.lanes import parse_lanes
    from klinefleet.tasks.fleet.supervisor import Supervisor

    settings = Settings.load()
    lanes = parse_lanes(queues)
    with ExitStack() as stack:
        if settings.redis_url is None:
            settings = replace(settings, redis_url=stack.enter_context(shared_redis()))
        elif not is_reachable(settings.redis_url):
            raise RequestError(
                f"no Redis answers at {mask_secrets(settings.redis_url)}; no worker was started"
            )
        log_to_stderr(loglevel, settings.log)
        supervisor = Supervisor(settings, lanes, loglevel=loglevel)
        logging.getLogger(__name__).info(
            "serving %s, Redis at %s, store %s",
            ", ".join(lane.queue for lane in lanes),
            mask_secrets(settings.redis_url or ""),
            settings.store_url,
        )
        supervisor.run_until_signal()


@click.command()
def beat() -> None:
    """Send what is due by the clock, until told to stop: each market's catalog, daily.

    Run one in a fleet.
    """
    from klinefleet.tasks.fleet.scheduler import run_scheduler
    from klinefleet.workers.app import connect

    with fleet_services() as services:
        preflight.check_redis(services)
        settings = services.settings
    connect(settings)
    log_to_stderr("INFO", settings.log)
    run_scheduler()


@click.command()
@click.option("--wait", default=0, help="Seconds to wait until every queue is served.")
def workers(wait: int) -> None:
    """List the queues that are served and by how many processes; exit 1 where one is served by
    none.

    For queues that spend weight also what is left of it at each public address.
    """
    import time

    from klinefleet.tasks.fleet.status import count_workers, status_lines

    ends = time.monotonic() + wait
    while True:
        try:
            with fleet_services() as services:
                preflight.check_redis(services)
                counts = count_workers(services)
                if all(counts.values()) or time.monotonic() > ends:
                    click.echo("\n".join(status_lines(services, counts)))
                    sys.exit(0 if all(counts.values()) else 1)
        except RequestError:
            if time.monotonic() > ends:
                raise
        time.sleep(0.1)

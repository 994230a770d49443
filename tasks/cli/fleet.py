"""`klines worker`, `klines workers`, `klines reopen` and `klines beat`."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import click

from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import fleet_services
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.workers.coordination.private_redis import shared_redis
from klinefleet.workers.coordination.redis_faults import fault_of
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.support.log import log_to_stderr
from klinefleet.workers.support.masking import mask_secrets
from klinefleet.workers.support.settings import Settings, trusted_certificates

#: Seconds between two looks at who serves the queues.
POLL_S = 0.1


@click.command()
@click.option(
    "--queues",
    metavar="LIST",
    show_default="all",
    help="Serve only these queues, separated by commas; `klines workers` lists them.",
)
@click.option(
    "--loglevel",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="Least severe messages to log: INFO has runs, bans and failures, DEBUG every window.",
)
def worker(queues: str | None, loglevel: str) -> None:
    """Start workers on this machine, one process a queue.

    They serve every run until Ctrl-C or SIGTERM. Start more on any machine. Without
    KLINES_REDIS_URL they bring a Redis for this machine. All workers at one Redis serve one store.
    """
    from klinefleet.tasks.fleet.join import join_fleet
    from klinefleet.tasks.fleet.lanes import parse_lanes
    from klinefleet.tasks.fleet.supervisor import Supervisor

    settings = Settings.load()
    with ExitStack() as stack:
        with on_refusal("no worker was started"):
            trusted_certificates()
            lanes = parse_lanes(queues)
            if settings.redis_url is None:
                settings = replace(settings, redis_url=stack.enter_context(shared_redis()))
            elif fault := fault_of(settings.redis_url):
                raise RequestError(f"Redis at {mask_secrets(settings.redis_url)} {fault}")
            log_to_stderr(loglevel, settings.log)
            store = join_fleet(settings)
        supervisor = Supervisor(settings, lanes, store, loglevel=loglevel)
        logging.getLogger(__name__).info(
            "serving %s, Redis at %s, store %s",
            ", ".join(lane.queue for lane in lanes),
            mask_secrets(settings.redis_url or ""),
            store,
        )
        supervisor.run_until_signal()


@click.command()
def beat() -> None:
    """Run the scheduler, which updates catalogs daily.

    Run one in a fleet, until Ctrl-C or SIGTERM.
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
@click.option(
    "--wait",
    metavar="SECONDS",
    type=int,
    default=0,
    show_default=True,
    help="Wait so long for every queue to have a worker.",
)
def workers(wait: int) -> None:
    """List queues, their workers and the weight spent.

    Each queue is listed with its number of worker processes, and below it what each public address
    has spent of this minute's weight. The last line is the store that they serve. Exit code 1 if a
    queue has no worker.
    """
    from klinefleet.tasks.fleet.status import count_workers, status_lines

    deadline = time.monotonic() + wait
    while True:
        try:
            with fleet_services() as services:
                preflight.check_redis(services)
                counts = count_workers(services)
                if all(counts.values()) or time.monotonic() > deadline:
                    click.echo("\n".join(status_lines(services, counts)))
                    sys.exit(0 if all(counts.values()) else 1)
        except RequestError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


@click.command()
@click.argument("pool", required=False, type=click.Choice([str(pool) for pool in Pool]))
@click.option("--egress", metavar="NAME", help="Only at this public address (KLINES_EGRESS).")
def reopen(pool: str | None, egress: str | None) -> None:
    """Try the exchange again before the time it named is over.

    A pool that the exchange has closed with 429 or 418 waits until the time that it named. This
    sends one trial call at once: if it is served, everybody goes on; if not, the pool is closed
    again. Do it only where that time cannot be right, since calls during a ban make it longer.
    Without POOL: every closed pool, at every address that workers use.
    """
    with fleet_services() as services, on_refusal("no pool was reopened"):
        preflight.check_redis(services)
        pools = [Pool(pool)] if pool else list(Pool)
        budgets = [budget for each in pools for budget in services.budgets(each).values()]
        known = sorted({budget.egress for budget in budgets})
        if egress and egress not in known:
            raise RequestError(f"no worker is at {egress!r}; workers are at {', '.join(known)}")
        closed_ms = {
            budget: budget.state().closed_ms
            for budget in budgets
            if egress in (None, budget.egress)
        }
        for budget, left_ms in closed_ms.items():
            if left_ms:
                budget.reopen()
                click.echo(
                    f"{budget.pool} at {budget.egress} was closed for another "
                    f"{left_ms / 1000:,.0f} s: one trial call goes out now, and the others once "
                    "it is served"
                )
        if not any(closed_ms.values()):
            click.echo("no pool is closed", err=True)

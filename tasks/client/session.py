"""What every command works in: its settings, its Redis, its log, and where asked for a private
fleet.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from klinefleet.workers.coordination.private_redis import is_reachable, private_redis, shared_url
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import FleetError, RequestError
from klinefleet.workers.domain.markets import RULES, Market
from klinefleet.workers.services import Services
from klinefleet.workers.support.log import AUTO, TEXT, log_to_stderr
from klinefleet.workers.support.masking import mask_secrets
from klinefleet.workers.support.settings import Settings

if TYPE_CHECKING:
    from klinefleet.tasks.fleet.supervisor import Supervisor


logger = logging.getLogger(__name__)


def command_settings() -> Settings:
    """Return a command's settings, and have it log to stderr."""
    settings = Settings.load()
    # A person reads what a command says, terminal or not.
    log_to_stderr("WARNING", TEXT if settings.log == AUTO else settings.log)
    return settings


@contextmanager
def fleet_services(*, local: bool = False) -> Iterator[Services]:
    """Yield what a command works with; `local` brings a private Redis of its own."""
    settings = command_settings()
    with ExitStack() as stack:
        if local:
            settings = replace(settings, redis_url=stack.enter_context(private_redis()))
        elif settings.redis_url is None:
            if not is_reachable(shared_url()):
                raise RequestError(
                    "no Redis: start `klines worker` (it brings one), use --local, or set "
                    "KLINES_REDIS_URL; "
                    "nothing was queued"
                )
            settings = replace(settings, redis_url=shared_url())
        yield Services(settings)


def offline_services() -> Services:
    """Return what a command works with that asks nobody but the store and the archive: there is no
    Redis in it.
    """
    return Services(command_settings())


@contextmanager
def lake_services() -> Iterator[Services]:
    """Yield what a command works with that looks at the lake; its `settings.redis_url` is None
    where no Redis answers.

    One that is named and does not answer is told of on stderr.
    """
    settings = command_settings()
    url = settings.redis_url or shared_url()
    if not is_reachable(url):
        if settings.redis_url:
            logger.warning(
                "no Redis answers at %s: what runs are doing is not known", mask_secrets(url)
            )
        url = ""
    yield Services(replace(settings, redis_url=url or None))


@contextmanager
def private_fleet(services: Services, queues: list[str]) -> Iterator[Supervisor]:
    """Start the lanes that a run needs; they stop with the command, and tell no metrics: nobody
    could find them.
    """
    from klinefleet.tasks.fleet.lanes import parse_lanes
    from klinefleet.tasks.fleet.supervisor import Supervisor

    supervisor = Supervisor(
        replace(services.settings, metrics_port=0),
        parse_lanes(",".join(queues)),
        loglevel="WARNING",
    )
    try:
        yield supervisor
    finally:
        supervisor.stop()


def hear_sigterm() -> None:
    """Have SIGTERM end this command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


#: An exchange's clock that is known to differ from Redis's by more is asked again before it is
#: believed.
DOUBTFUL_MS = 600_000


def exchange_ms(services: Services, market: Market) -> int:
    """Return the exchange's time, ms UTC, as its latest answer to any public address tells it.

    Where there was none, or a doubtful one, the exchange is asked; where it does not answer, what
    is known stands, or Redis's time with a warning.
    """
    pool = RULES[market].pool
    budgets = {services.settings.egress: services.budget(pool), **services.budgets(pool)}
    states = (budget.state() for budget in budgets.values())
    known = [
        (state.offset_at_ms or 0, state.offset_ms)
        for state in states
        if state.offset_ms is not None
    ]
    offset_ms = max(known)[1] if known else None
    if offset_ms is not None and abs(offset_ms) <= DOUBTFUL_MS:
        return now_ms(services.redis) + offset_ms
    try:
        return services.client(market).time_ms()
    except FleetError as error:
        if offset_ms is not None:
            return now_ms(services.redis) + offset_ms
        logger.warning(
            "%s does not tell the time (%s): that of Redis is used, and must be right",
            market,
            error.reason,
        )
        return now_ms(services.redis)

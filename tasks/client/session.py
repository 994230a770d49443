"""A command's surroundings: its settings, log, Redis and, with --local, a private fleet."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from klinefleet.workers.coordination.private_redis import (
    is_shared_reachable,
    private_redis,
    shared_url,
)
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.coordination.redis_faults import fault_of
from klinefleet.workers.domain.errors import FleetError, OverWeight, RequestError, Transient
from klinefleet.workers.domain.markets import RULES, Market
from klinefleet.workers.domain.stores import absolute_url
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode
from klinefleet.workers.support.log import AUTO, TEXT, log_to_stderr
from klinefleet.workers.support.masking import mask_secrets, printable
from klinefleet.workers.support.settings import Settings

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from klinefleet.tasks.fleet.supervisor import Supervisor

T = TypeVar("T")

logger = logging.getLogger(__name__)


def command_settings() -> Settings:
    """Return the settings, and start logging to stderr."""
    settings = Settings.load()
    # People read a command's log, so AUTO means text even where stderr is no terminal.
    log_to_stderr("WARNING", TEXT if settings.log == AUTO else settings.log)
    return settings


@contextmanager
def fleet_services(*, local: bool = False) -> Iterator[Services]:
    """Yield services with a Redis: the configured one, or with `local` a private one."""
    settings = command_settings()
    with ExitStack() as stack:
        if local:
            settings = replace(settings, redis_url=stack.enter_context(private_redis()))
        elif settings.redis_url is None:
            if not is_shared_reachable():
                raise RequestError(
                    "no Redis found; start `klines worker`, which brings one, use --local, or set "
                    "KLINES_REDIS_URL"
                )
            settings = replace(settings, redis_url=shared_url())
        yield Services(settings)


def offline_services() -> Services:
    """Return services without a Redis, for work on the store and the archive alone."""
    return Services(command_settings())


@contextmanager
def lake_services() -> Iterator[Services]:
    """Yield services for reading the lake, with a Redis only if one answers.

    Else `settings.redis_url` is None; a configured Redis that does not answer is logged.
    """
    settings = command_settings()
    url = settings.redis_url or (shared_url() if is_shared_reachable() else "")
    if settings.redis_url and (fault := fault_of(settings.redis_url)):
        logger.warning("Redis at %s %s: the state of runs is unknown", mask_secrets(url), fault)
        url = ""
    yield Services(replace(settings, redis_url=url or None))


@contextmanager
def private_fleet(services: Services, queues: list[str]) -> Iterator[Supervisor]:
    """Start workers of the command's store for the queues, and stop them with the command.

    They serve no metrics: no Prometheus could find them. LakeFormat if the lake is of another
    format than this version writes.
    """
    from klinefleet.tasks.fleet.lanes import parse_lanes
    from klinefleet.tasks.fleet.supervisor import Supervisor

    settings = services.settings
    supervisor = Supervisor(
        replace(settings, metrics_port=0, store_url=absolute_url(settings.store_url)),
        parse_lanes(",".join(queues)),
        services.own_store(),
        loglevel="WARNING",
    )
    try:
        yield supervisor
    finally:
        supervisor.stop()


def handle_sigterm_as_ctrl_c() -> None:
    """Raise KeyboardInterrupt on SIGTERM."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


#: A known clock offset larger than this is measured again before it is used, ms.
MAX_TRUSTED_OFFSET_MS = 600_000


def exchange_ms(services: Services, market: Market, mode: Mode = Mode.AUTO) -> int:
    """Return the exchange's time, ms UTC.

    Redis's clock and the offset that the latest answer to any public address had. The exchange is
    asked where no offset is known, or one too large to trust. If it does not answer, such an offset
    is used after all, or Redis's clock alone, with a warning. Where REST is not allowed, Redis's
    clock is enough: files are a day old.
    """
    pool = RULES[market].pool
    budgets = {services.settings.egress: services.budget(pool), **services.budgets(pool)}
    states = [budget.state() for budget in budgets.values()]
    offsets = [
        (state.offset_at_ms or 0, state.offset_ms)
        for state in states
        if state.offset_ms is not None
    ]
    offset_ms = max(offsets)[1] if offsets else None
    if offset_ms is not None and abs(offset_ms) <= MAX_TRUSTED_OFFSET_MS:
        return now_ms(services.redis) + offset_ms
    if mode is Mode.ARCHIVE:
        return now_ms(services.redis)
    try:
        return ask_again(services, services.client(market).time_ms)
    except FleetError as error:
        if offset_ms is not None:
            return now_ms(services.redis) + offset_ms
        logger.warning(
            "%s does not return its time (%s); using the clock of Redis, which must be right",
            market,
            error.reason,
        )
        return now_ms(services.redis)


def ask_again(services: Services, question: Callable[[], T]) -> T:
    """Return the answer to a command's first question, asked again for some seconds if it fails.

    One refusal, as of a firewall, says little. FleetError where no try succeeds.
    """
    from klinefleet.workers.support.retry import FIRST_QUESTION

    def tell_first(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if state.attempt_number == 1 and isinstance(error, FleetError):
            say(f"{error.reason}; asking again")

    def pause(seconds: float) -> None:
        if services.stop.wait(seconds):
            raise OverWeight("the command was stopped; nothing was asked")

    def may_recover(error: BaseException) -> bool:
        return isinstance(error, Transient) and not isinstance(error, OverWeight)

    tries = FIRST_QUESTION.retrying(may_recover, sleep=pause, before_sleep=tell_first)
    answer: T = tries(question)
    return answer


def say(text: str) -> None:
    """Tell people at the terminal a line; results alone go to stdout."""
    print(printable(text), file=sys.stderr, flush=True)

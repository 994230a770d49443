"""What every command works in: its settings, its Redis, its log, and where asked for a private fleet."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from workers.binance.markets import RULES
from workers.errors import FleetError, RequestError
from workers.heart import now_ms
from workers.log import AUTO, TEXT, log_to_stderr
from workers.model import Market
from workers.private_redis import answers, private_redis, shared_url
from workers.settings import Settings
from workers.toolbox import Toolbox

if TYPE_CHECKING:
    from tasks.crew import Crew


logger = logging.getLogger(__name__)


def surroundings() -> Settings:
    """Return a command's settings, and have it log to stderr."""
    settings = Settings.load()
    # A person reads what a command says, terminal or not.
    log_to_stderr("WARNING", TEXT if settings.log == AUTO else settings.log)
    return settings


@contextmanager
def fleet(*, local: bool = False) -> Iterator[Toolbox]:
    """Yield what a command works with; `local` brings a private Redis of its own."""
    settings = surroundings()
    with ExitStack() as stack:
        if local:
            settings = replace(settings, redis_url=stack.enter_context(private_redis()))
        elif settings.redis_url is None:
            if not answers(shared_url()):
                raise RequestError(
                    "no Redis: start `klines worker` (it brings one), use --local, or set KLINES_REDIS_URL; "
                    "nothing was queued"
                )
            settings = replace(settings, redis_url=shared_url())
        yield Toolbox(settings)


def alone() -> Toolbox:
    """Return what a command works with that asks nobody but the store and the archive: there is no Redis in it."""
    return Toolbox(surroundings())


@contextmanager
def lake() -> Iterator[Toolbox]:
    """Yield what a command works with that looks at the lake; its `settings.redis_url` is None where no Redis answers.

    One that is named and does not answer is told of on stderr.
    """
    settings = surroundings()
    url = settings.redis_url or shared_url()
    if not answers(url):
        if settings.redis_url:
            logger.warning("no Redis answers at %s: what runs are doing is not known", url.rpartition("@")[2])
        url = ""
    yield Toolbox(replace(settings, redis_url=url or None))


@contextmanager
def private_crew(tools: Toolbox, queues: list[str]) -> Iterator[Crew]:
    """Start the lanes that a run needs; they stop with the command, and tell no metrics: nobody could find them."""
    from tasks.crew import Crew
    from tasks.lanes import lanes_of

    crew = Crew(replace(tools.settings, metrics_port=0), lanes_of(",".join(queues)), loglevel="WARNING")
    try:
        yield crew
    finally:
        crew.stop()


def hear_sigterm() -> None:
    """Have SIGTERM end this command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


#: An exchange's clock that is known to differ from Redis's by more is asked again before it is believed.
DOUBTFUL_MS = 600_000


def exchange_ms(tools: Toolbox, market: Market) -> int:
    """Return the exchange's time, ms UTC, as its latest answer to any public address tells it.

    Where there was none, or a doubtful one, the exchange is asked; where it does not answer, what is known stands, or
    Redis's time with a warning.
    """
    pool = RULES[market].pool
    budgets = {tools.settings.egress: tools.budget(pool), **tools.budgets(pool)}
    states = (budget.state() for budget in budgets.values())
    known = [(state.offset_at_ms or 0, state.offset_ms) for state in states if state.offset_ms is not None]
    offset_ms = max(known)[1] if known else None
    if offset_ms is not None and abs(offset_ms) <= DOUBTFUL_MS:
        return now_ms(tools.redis) + offset_ms
    try:
        return tools.client(market).time_ms()
    except FleetError as error:
        if offset_ms is not None:
            return now_ms(tools.redis) + offset_ms
        logger.warning("%s does not tell the time (%s): that of Redis is used, and must be right", market, error.reason)
        return now_ms(tools.redis)

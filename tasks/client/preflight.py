"""What is checked before a run is queued: Redis, workers, the store, the exchange's symbols."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.requests.symbols import SymbolSelection, choose_symbols
from klinefleet.workers.coordination.heartbeat import any_worker_seen_recently, live_workers
from klinefleet.workers.coordination.leases import LEASE_TTL_MS
from klinefleet.workers.coordination.private_redis import is_reachable
from klinefleet.workers.domain.errors import FleetError, RequestError, StoreFault
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.queues import ARCHIVE, COMPACT, PLAN, rest_queue
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode
from klinefleet.workers.support.masking import mask_secrets

#: A lane that starts again, as after Redis was away, serves within so long; how often it is looked
#: for.
RETURNS_S, LOOK_S = LEASE_TTL_MS / 1000 + 4.0, 0.5


def check_redis(services: Services) -> None:
    """Raise RequestError where no Redis answers."""
    if not is_reachable(services.settings.redis_url or ""):
        raise RequestError(
            f"no Redis answers at {mask_secrets(services.settings.redis_url or '')}; nothing was "
            "queued"
        )


def queues_of(market: Market, kind: Kind, mode: Mode) -> list[str]:
    """Return the queues that a run needs."""
    rest = [] if mode is Mode.ARCHIVE else [rest_queue(kind.pool(market))]
    return [PLAN, *rest, *([] if mode is Mode.REST else [ARCHIVE]), COMPACT]


def check_workers(
    services: Services,
    queues: list[str],
    otherwise: str = "queue it for later with --detach",
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Raise RequestError where a queue that is needed is served by no living worker; says what to
    do `otherwise`.

    Where workers lived until just now, a queue that is not served is waited for: a lane may be
    starting again.
    """
    for look in range(int(RETURNS_S / LOOK_S)):
        missing = _unserved(services, queues)
        if not missing:
            return
        if not any_worker_seen_recently(services.redis):
            break
        if not look:
            _say(
                f"no worker serves {', '.join(missing)} now; waiting up to {RETURNS_S:.0f} s for "
                "one to start again"
            )
        pause(LOOK_S)
    if missing := _unserved(services, queues):
        raise RequestError(
            f"no worker serves {', '.join(missing)}: start one with `klines worker`, or "
            f"{otherwise}; nothing was queued"
        )


def _unserved(services: Services, queues: list[str]) -> list[str]:
    served = {name.partition("@")[0] for name in live_workers(services.redis)}
    return [queue for queue in queues if queue not in served]


def check_store(services: Services) -> None:
    """Raise RequestError where the store takes no object."""
    try:
        services.store.check_writable()
    except (StoreFault, OSError) as error:
        where = services.settings.store_url
        raise RequestError(
            f"store {where} cannot be written: {error}; nothing was queued"
        ) from error


def load_exchange_info(services: Services, market: Market) -> None:
    """Have the market's symbols and limit known; RequestError where the exchange does not tell and
    never has.
    """
    try:
        services.symbol_cache.refresh(market)
    except FleetError as error:
        age_ms = services.symbol_cache.symbols_age_ms(market)
        if age_ms is None:
            raise RequestError(
                f"the exchange does not tell its symbols: {error.reason}; nothing was queued"
            ) from error
        age_h = age_ms / 3_600_000
        _say(
            f"the exchange does not tell its symbols ({error.reason}); those of {age_h:.1f} hours "
            "ago are used"
        )


def request_of(
    services: Services,
    market: Market,
    kind: Kind,
    interval: Interval,
    selection: SymbolSelection,
    span: tuple[int, int],
    mode: Mode,
    revise: bool,
) -> tuple[Request, dict[str, str]]:
    """Return the request, and what the user should know of symbols that are not in it."""
    chosen = choose_symbols(services, market, kind, interval, selection, mode, _say)
    return Request(market, kind, interval, chosen.symbols, *span, mode, revise), chosen.notes


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

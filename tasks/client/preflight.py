"""Check what a run needs before it is queued: Redis, workers, the store, the symbols."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from klinefleet.tasks.client.session import ask_again, say
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.requests.symbols import SymbolSelection, choose_symbols
from klinefleet.tasks.runs.same_store import require_same_store
from klinefleet.workers.coordination.fleet_store import served_store
from klinefleet.workers.coordination.heartbeat import any_worker_seen_recently, live_workers
from klinefleet.workers.coordination.leases import LEASE_TTL_MS
from klinefleet.workers.coordination.redis_faults import fault_of
from klinefleet.workers.domain.errors import (
    FleetError,
    LakeFormat,
    RequestError,
    SettingsError,
    StoreFault,
    UnsafeStore,
)
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.queues import ARCHIVE, COMPACT, PLAN, rest_queue
from klinefleet.workers.domain.timestamps import HOUR_MS
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode
from klinefleet.workers.support.masking import mask_secrets

#: Longest wait for a worker that restarts, as after Redis was away, seconds.
RESTART_TIMEOUT_S = LEASE_TTL_MS / 1000 + 4.0
#: How often workers are looked up meanwhile, seconds.
POLL_S = 0.5


def check_redis(services: Services) -> None:
    """Raise RequestError if Redis does not answer a question."""
    url = services.settings.redis_url or ""
    if fault := fault_of(url):
        raise RequestError(f"Redis at {mask_secrets(url)} {fault}")


def required_queues(market: Market, kind: Kind, mode: Mode) -> list[str]:
    """Return the queues that a run needs workers for."""
    rest = [] if mode is Mode.ARCHIVE else [rest_queue(kind.pool(market))]
    archive = [] if mode is Mode.REST else [ARCHIVE]
    return [PLAN, *rest, *archive, COMPACT]


def check_workers(
    services: Services,
    queues: list[str],
    alternative: str = "queue it for later with --detach",
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Raise RequestError if a queue has no live worker; the message offers `alternative`.

    Where workers were alive until just now, one may be restarting: then it is waited for.
    """
    for attempt in range(int(RESTART_TIMEOUT_S / POLL_S)):
        unserved = _unserved(services, queues)
        if not unserved:
            return
        if not any_worker_seen_recently(services.redis):
            break
        if attempt == 0:
            say(
                f"no worker serves {', '.join(unserved)} now; waiting up to "
                f"{RESTART_TIMEOUT_S:.0f} s for one to restart"
            )
        pause(POLL_S)
    if unserved := _unserved(services, queues):
        raise RequestError(
            f"no worker serves {', '.join(unserved)}: start one with `klines worker`, or "
            f"{alternative}"
        )


def _unserved(services: Services, queues: list[str]) -> list[str]:
    served = {name.partition("@")[0] for name in live_workers(services.redis)}
    return [queue for queue in queues if queue not in served]


def check_store(services: Services) -> None:
    """Raise RequestError if the store cannot be written."""
    try:
        services.store.check_writable()
    except StoreFault as error:
        url = services.settings.store_url
        raise RequestError(f"store {url} cannot be written: {error}") from error


def check_lake(services: Services) -> None:
    """Raise RequestError if the lake is of another format, or its store not to be trusted."""
    try:
        services.identity.require_current()
    except (LakeFormat, UnsafeStore, StoreFault) as error:
        raise RequestError(str(error)) from error


def check_same_store(services: Services) -> None:
    """Raise RequestError, which names both stores, if the fleet serves another one.

    Where no lane has named a store, those of the active runs are compared. RequestError also if
    Redis does not answer.
    """
    check_redis(services)
    try:
        identity = services.identity.read()
    except (LakeFormat, StoreFault) as error:
        raise RequestError(str(error)) from error
    require_same_store(services.redis, services.store_ref(identity))


def await_same_store(services: Services, pause: Callable[[float], None] = time.sleep) -> None:
    """Return once lanes have named the command's store; RequestError if none does so in time.

    For a store that has just got its id: lanes learn it within `LEARN_INTERVAL_S`.
    """
    for _ in range(int(RESTART_TIMEOUT_S / POLL_S)):
        check_same_store(services)
        if served_store(services.redis):
            return
        pause(POLL_S)
    store = services.store_ref(services.identity.read())
    raise RequestError(f"no worker serves the store {store}: rewrite it here with --local")


def load_exchange_info(services: Services, market: Market, mode: Mode = Mode.AUTO) -> None:
    """Load the market's symbols and weight limit from the exchange, unless REST is not allowed.

    Where it does not answer, the last known symbols are used, with a warning, or else those of the
    archive; RequestError where none are known and the archive is not allowed.
    """
    if mode is Mode.ARCHIVE:
        return
    try:
        ask_again(services, partial(services.symbol_cache.refresh, market))
    except SettingsError:
        raise
    except FleetError as error:
        age_ms = services.symbol_cache.symbols_age_ms(market)
        if age_ms is None and mode is Mode.REST:
            raise RequestError(
                f"could not load symbols from the exchange: {error.reason}"
            ) from error
        if age_ms is None:
            say(
                f"could not load symbols from the exchange ({error.reason}); going on with "
                "the archive"
            )
            return
        say(
            f"could not load symbols from the exchange ({error.reason}); using those of "
            f"{age_ms / HOUR_MS:.1f} hours ago"
        )


def build_request(
    services: Services,
    market: Market,
    kind: Kind,
    interval: Interval,
    selection: SymbolSelection,
    span: tuple[int, int],
    mode: Mode,
    revise: bool,
) -> tuple[Request, dict[str, str]]:
    """Return the request, and a note for each symbol that is left out of it."""
    chosen = choose_symbols(services, market, kind, interval, selection, mode, say)
    return Request(market, kind, interval, chosen.symbols, *span, mode, revise), chosen.notes

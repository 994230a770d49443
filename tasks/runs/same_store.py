"""Whether a worker or a command is of the store that the fleet of its Redis works for."""

from __future__ import annotations

from redis import Redis

from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.fleet_store import served_store
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.stores import StoreRef


def require_same_store(redis: Redis, own: StoreRef) -> None:
    """Raise RequestError, which names both stores, if the fleet serves another one than `own`.

    Where no lane has named a store, those of the active runs are compared.
    """
    if served := served_store(redis):
        if served.id != own.id:
            raise other_store(own, served)
        return
    for run, store in Runs(redis).active_stores().items():
        if store.id != own.id:
            raise RequestError(
                f"the store here is {own}, but run {run}, which has not ended, is for {store}: "
                f"use another Redis, or cancel it with `klines cancel {run}`"
            )


def other_store(own: StoreRef, served: StoreRef) -> RequestError:
    """Return the error that names both stores, and what to do."""
    advice = (
        "it was replaced: restart the fleet's workers"
        if own.url == served.url
        else "check KLINES_STORE_URL, or use another Redis"
    )
    return RequestError(
        f"the store here is {own}, but the fleet at this Redis serves {served}: {advice}"
    )

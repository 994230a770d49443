"""Joining a fleet: a worker settles which store it serves before its lanes start."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from redis import Redis

from klinefleet.tasks.runs.same_store import other_store, require_same_store
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.coordination.private_redis import die_with_parent
from klinefleet.workers.domain.errors import (
    FleetError,
    LakeFormat,
    RequestError,
    StoreFault,
    UnsafeStore,
)
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.lake.identity import FORMAT
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds that the store may take to tell its identity before the lanes start without it.
SETTLE_S = 20.0
#: Seconds between two tries to learn an identity that was not known at the start.
LEARN_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class Settled:
    """What a store says of itself, as far as it answers."""

    store_id: str = ""
    is_known: bool = True
    """False if the store did not answer, so that it may have an id all the same."""
    warning: str = ""
    refusal: str = ""


def join_fleet(settings: Settings) -> StoreRef:
    """Return the store that this worker's lanes serve, after it was named in Redis.

    A new store gets its identity. RequestError if its lake is of a newer format, it cannot be
    written safely, or the fleet or an active run is of another store. The id is empty, with a
    warning, if the store does not answer or has none before a migration: `learn_store_id` finds it
    later.
    """
    settled = _settle_in_child(settings)
    if settled.refusal:
        raise RequestError(settled.refusal)
    if settled.warning:
        logger.warning("%s", settled.warning)
    own = StoreRef(settled.store_id, Services(settings).store_ref(None).url)
    with Redis.from_url(settings.redis_url or "") as redis:
        if settled.is_known:
            require_same_store(redis, own)
            if served := FleetStore(redis, own).keep():
                raise other_store(own, served)
    return own


def learn_store_id(services: Services, stopped: threading.Event) -> None:
    """Return once the store's id is known, or `stopped` is set."""
    while not services.fleet_store.own.id and not stopped.wait(LEARN_INTERVAL_S):
        try:
            found = services.identity.read()
        except (FleetError, OSError) as error:
            logger.debug("the store's identity could not be read, trying again: %s", error)
            continue
        if found:
            services.fleet_store.learn(found.id)
            logger.info("serving store %s", services.fleet_store.own)


def _settle_in_child(settings: Settings) -> Settled:
    """Return what the store says of itself.

    A child process asks: clients of the store start threads, and a supervisor with threads could
    not fork its lanes safely.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_settled, args=(settings, sender, os.getpid()))
    child.start()
    sender.close()
    try:
        if receiver.poll(SETTLE_S):
            answer: Settled = receiver.recv()
            return answer
        fault = f"no answer within {SETTLE_S:.0f} s"
    except EOFError:
        fault = "its client failed, see above"
    finally:
        child.kill()
        child.join()
        receiver.close()
    return _unknown(settings, fault)


def _send_settled(settings: Settings, sender: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    sender.send(settle(settings))


def settle(settings: Settings) -> Settled:
    """Return what the store says of itself; a new store gets its identity."""
    identity = Services(settings).identity
    try:
        found = identity.settle()
        if found.format == FORMAT:
            return Settled(found.id)
    except (LakeFormat, UnsafeStore) as error:
        return Settled(refusal=str(error))
    except (StoreFault, OSError) as error:
        return _unknown(settings, str(error))
    try:
        return Settled(identity.require_current().id)
    except LakeFormat as error:
        if found.format > FORMAT:
            return Settled(refusal=str(error))
        return Settled(found.id, warning=f"{error}; until then nothing else is written")
    except (StoreFault, OSError) as error:
        return _unknown(settings, str(error))


def _unknown(settings: Settings, fault: str) -> Settled:
    url = Services(settings).store_ref(None).url
    text = f"the store {url} does not tell its identity, starting without it: {fault}"
    return Settled(is_known=False, warning=text)

"""The store that the fleet of a Redis serves: one at a time, named in Redis while lanes live."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

from redis import Redis

from klinefleet.workers.coordination.leases import LEASE_TTL_MS
from klinefleet.workers.domain.errors import OtherStore
from klinefleet.workers.domain.redis_keys import STORE, WORKERS
from klinefleet.workers.domain.stores import StoreRef

_SCRIPT = Path(__file__).with_name("fleet_store.lua").read_text()


class FleetStore:
    """A process's own store, and whether the fleet serves the same.

    A `Heartbeat` keeps the own store in Redis; it lapses with the last process's leases.
    """

    def __init__(self, redis: Redis, own: StoreRef) -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._lock = threading.Lock()
        self.own = own
        self.other: StoreRef | None = None
        """Another store, which the fleet was last seen to serve."""

    def learn(self, store_id: str) -> None:
        """Set the id of the own store, which was not known before."""
        with self._lock:
            self.own = StoreRef(store_id, self.own.url)

    def keep(self) -> StoreRef | None:
        """Renew the own store in Redis, or set it there; return another one that was found."""
        with self._lock:
            found = self._run("keep")
            self.other = StoreRef.from_json(found) if found else None
            return self.other

    def release(self) -> None:
        """Delete the own store from Redis if no process of the fleet is alive."""
        if self.own.id:
            self._run("release")

    def check(self) -> None:
        """Raise OtherStore if the fleet serves another store."""
        if other := self.other:
            raise OtherStore(f"this worker's store is {self.own}, and the fleet serves {other}")

    def _run(self, verb: str) -> bytes:
        own = self.own
        answer = self._script(
            keys=[STORE, WORKERS], args=[verb, own.id, own.to_json(), LEASE_TTL_MS]
        )
        return cast("bytes", answer)


def served_store(redis: Redis) -> StoreRef | None:
    """Return the store that the fleet serves, None if no lane has named one."""
    text = cast("bytes | None", redis.get(STORE))
    return StoreRef.from_json(text) if text else None

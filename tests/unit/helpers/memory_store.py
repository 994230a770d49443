"""A store in memory."""

from __future__ import annotations

from klinefleet.workers.storage.objects import ObjectStore


class MemoryStore(ObjectStore):
    """Objects in a dictionary: a test that changes a byte needs no disk."""

    def __init__(self) -> None:
        super().__init__(None, "")
        self.held: dict[str, bytes] = {}

    def put(self, key: str, body: bytes) -> None:
        self.held[key] = body

    def read(self, key: str) -> bytes | None:
        return self.held.get(key)

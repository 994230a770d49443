"""The store's identity: a random id and the lake's format number, written once at its root.

`klinefleet.json` is {"id": "5f3a…", "format": 2}. It is written after the store was proved to
honour conditional writes: a store that has one keeps what it is given. Lakes of format 1 have none:
their partitions are months, and their footers do not say which. They are read as they are;
`klines migrate` rewrites them, and nothing else writes into them.
"""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass

from klinefleet.workers.domain.errors import LakeFormat, PartitionDamaged, VersionConflict
from klinefleet.workers.lake import keys
from klinefleet.workers.storage.objects import ObjectStore

#: The format that this version writes.
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """Which store it is, and the format of its lake."""

    id: str
    """Empty for a lake of format 1 that no migration has begun."""
    format: int


class StoreIdentity:
    """Reads a store's identity, and writes that of a new store."""

    def __init__(self, files: ObjectStore) -> None:
        self._files = files
        self._current: Identity | None = None
        self._lock = threading.Lock()

    def read(self) -> Identity | None:
        """Return the identity as it is written; None where there is none yet.

        LakeFormat if it does not decode.
        """
        body = self._files.read(keys.IDENTITY)
        return None if body is None else self._parse(body)

    def settle(self) -> Identity:
        """Return the identity; a store that has none gets one, unless its lake is of format 1."""
        found = self.read()
        if found is None:
            if self._is_of_format_1():
                return Identity("", 1)
            found = self._create(FORMAT)
        return found

    def require_current(self) -> Identity:
        """Return the identity of a store that may be written; LakeFormat for any other format."""
        with self._lock:
            if self._current is None:
                found = self.settle()
                self._check(found)
                self._current = found
            return self._current

    def begin_migration(self) -> Identity:
        """Return the identity of the store, after a lake of format 1 has got one.

        LakeFormat if its lake is of a newer format than this version writes.
        """
        found = self.read()
        if found is None:
            found = self._create(1 if self._is_of_format_1() else FORMAT)
        if found.format > FORMAT:
            self._check(found)
        return found

    def end_migration(self) -> Identity:
        """Record that the lake is of this version's format, and return the identity."""
        body = self._files.read(keys.IDENTITY)
        etag = self._files.etag(keys.IDENTITY)
        if body is None:
            return self._create(FORMAT)
        migrated = Identity(self._parse(body).id, FORMAT)
        try:
            self._files.publish(keys.IDENTITY, _encoded(migrated), replaces=etag)
        except VersionConflict:
            # Another migration has ended at the same time.
            found = self.read()
            if found != migrated:
                raise
        return migrated

    def _create(self, lake_format: int) -> Identity:
        self._files.prove_conditional_writes()
        new = Identity(secrets.token_hex(8), lake_format)
        try:
            self._files.publish(keys.IDENTITY, _encoded(new), replaces=None)
        except VersionConflict:
            # Another process was first, or our own try was stored and its answer lost.
            return self.read() or new
        return new

    def _check(self, found: Identity) -> None:
        where = self._files.address("").rstrip("/")
        if found.format > FORMAT:
            raise LakeFormat(
                f"the lake at {where} is of format {found.format}, which a newer version wrote; "
                f"this one writes format {FORMAT}: upgrade klinefleet"
            )
        if found.format < FORMAT:
            raise LakeFormat(
                f"the lake at {where} is of format {found.format}, and this version writes format "
                f"{FORMAT}: run `klines migrate` first, or `klines migrate --local`"
            )

    def _parse(self, body: bytes) -> Identity:
        try:
            fields = json.loads(body)
            return Identity(str(fields["id"]), int(fields["format"]))
        except (ValueError, KeyError, TypeError) as error:
            raise LakeFormat(
                f"{self._files.address(keys.IDENTITY)} is not a store's identity, which is JSON "
                "with an id and a format; it was left as it is"
            ) from error

    def _is_of_format_1(self) -> bool:
        """Return True if a partition has a name or a footer of format 1.

        Of footers only the first and the last are read: what writes one writes all.
        """
        found = [
            (entry, partition)
            for entry in self._files.list("lake")
            if (partition := keys.partition_of(entry.key))
        ]
        if not all(partition.is_of_this_format for _, partition in found):
            return True
        return any(self._has_footer_of_format_1(entry.key) for entry, _ in (found[:1] + found[-1:]))

    def _has_footer_of_format_1(self, key: str) -> bool:
        # Imported only here: Polars takes as long to import as a command to start.
        from klinefleet.workers.lake.footers.footer import read_footer

        try:
            footer = read_footer(lambda size: self._files.read_tail(key, size), key)
        except PartitionDamaged:
            return False
        return footer.partition is None


def _encoded(identity: Identity) -> bytes:
    return json.dumps({"id": identity.id, "format": identity.format}).encode()

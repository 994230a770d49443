"""The object store: read, list, put, publish and delete, through fsspec.

`publish` replaces exactly the version that the caller has read, or raises `VersionConflict`. S3
checks that itself; a folder is locked meanwhile, and a temporary file renamed.
"""

from __future__ import annotations

import errno
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tenacity import RetryCallState

from klinefleet.workers.domain.errors import FleetError, StoreFault, UnsafeStore, VersionConflict
from klinefleet.workers.storage.faults import in_words
from klinefleet.workers.support import metrics
from klinefleet.workers.support.retry import STORE, RetryPolicy

logger = logging.getLogger(__name__)

#: The folder of trial writes.
TRIALS = "raw"
#: An ETag that no object has.
_NO_VERSION = "0" * 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing. The etag names its version."""

    key: str
    etag: str
    size: int


class ObjectStore:
    """The objects below one root; keys are relative to it.

    Every method tries several times, then raises StoreFault.
    """

    #: True if reading costs a network round trip, so that a copy on this machine is worth it.
    is_remote = False
    #: Bytes of a trial write: a store may take an empty object and no other.
    _trial_bytes = 0

    def __init__(self, fs: Any, root: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self._sleep = sleep
        self._refuses_writes = False

    def read(self, key: str) -> bytes | None:
        """Return the object's bytes, None if it does not exist."""
        return count_read(
            self._try("read", key, lambda: none_if_missing(self._fs.cat_file, self._path(key)))
        )

    def read_tail(self, key: str, size: int) -> bytes | None:
        """Return the object's last `size` bytes, or all if it is shorter; None if it is missing."""
        return count_read(
            self._try("read", key, lambda: none_if_missing(self._read_tail, self._path(key), size))
        )

    def etag(self, key: str) -> str | None:
        """Return the version of the object, None if it does not exist."""
        return self._try("stat", key, lambda: none_if_missing(self._version, self._path(key)))

    def list(self, folder: str) -> list[StoredObject]:
        """Return all objects below a folder, sorted by key; temporary files are left out."""
        found = self._try("list", folder, lambda: self._find(self._path(folder)))
        key_start = len(self._root) + 1
        return [
            StoredObject(path[key_start:], self._etag(info), int(info["size"]))
            for path, info in sorted(found.items())
            if not path.rpartition("/")[2].startswith(".")
        ]

    def put(self, key: str, body: bytes) -> None:
        """Store an object, whatever its version; for keys that always get the same content."""
        self._write("write", key, body, lambda: self._put(self._path(key), body))

    def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
        """Replace one version of an object; VersionConflict if it is at another version.

        replaces: the etag of the version to replace; None for an object that must not exist yet.
        """
        self._write("publish", key, body, lambda: self._publish(self._path(key), body, replaces))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a missing one is no error."""
        for key in keys:
            self._try("delete", key, partial(none_if_missing, self._remove, self._path(key)))

    def address(self, key: str) -> str:
        """Return the object's address for other programs: a path, or s3://bucket/key."""
        return self._path(key)

    def polars_options(self) -> dict[str, str] | None:
        """Return the storage options for Polars to read an `address`, None if it needs none."""
        return None

    def duckdb_filesystem(self) -> Any:
        """Return the fsspec filesystem for DuckDB to read an `address`, None for its own."""
        return None

    def check_writable(self) -> None:
        """Raise StoreFault if the store is not writable."""
        key = f"{TRIALS}/.writable.{uuid.uuid4().hex}"
        # Another process has just removed the empty folder: after it was made, or as it was seen to
        # exist.
        retrying = RetryPolicy(STORE.tries, 0.0).retrying(
            lambda error: isinstance(error, FileNotFoundError | FileExistsError)
        )
        try:
            retrying(self._call, lambda: self._put(self._path(key), bytes(self._trial_bytes)))
        except Exception as error:
            raise self._fault("write", key, error) from error
        self._refuses_writes = False
        self.delete([key])

    def require_writable(self) -> None:
        """Raise StoreFault if the store refused this process's last write and refuses another one.

        It costs nothing while writes succeed.
        """
        if self._refuses_writes:
            self.check_writable()

    def sweep(self, folders: Iterable[str]) -> None:
        """Delete what killed processes left in these folders an hour ago or earlier."""
        raise NotImplementedError

    def prove_conditional_writes(self) -> None:
        """Raise UnsafeStore unless `publish` is refused where, and only where, it has to be.

        Without that, two workers that publish one partition at once would lose rows.
        """
        key = f"{TRIALS}/.conditions.{uuid.uuid4().hex}"
        try:
            self._publishes(key, replaces=None)
            if self._publishes(key, replaces=None):
                raise self._unsafe("created an object that was there, against If-None-Match")
            if self._publishes(key, replaces=_NO_VERSION):
                raise self._unsafe("replaced another version than the one named by If-Match")
            if not self._publishes(key, replaces=self.etag(key)):
                raise self._unsafe("refused to replace the very version named by If-Match")
        finally:
            self.delete([key])

    def _publishes(self, key: str, *, replaces: str | None) -> bool:
        try:
            self.publish(key, uuid.uuid4().bytes, replaces=replaces)
        except VersionConflict:
            return False
        return True

    def _unsafe(self, what: str) -> UnsafeStore:
        return UnsafeStore(
            f"the store at {self.address('').rstrip('/')} {what}: two workers could overwrite each "
            "other's rows there; use a store that honours conditional writes"
        )

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _find(self, path: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._fs.find(path, detail=True)
        return found

    def _read_tail(self, path: str, size: int) -> bytes:
        return bytes(self._fs.cat_file(path, start=-size))

    def _version(self, path: str) -> str:
        return self._etag(self._fs.info(path))

    def _etag(self, info: dict[str, Any]) -> str:
        raise NotImplementedError

    def _remove(self, path: str) -> None:
        self._fs.rm_file(path)

    def _put(self, path: str, body: bytes) -> None:
        raise NotImplementedError

    def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
        raise NotImplementedError

    def _write(self, verb: str, key: str, body: bytes, call: Callable[[], None]) -> None:
        try:
            self._try(verb, key, call)
        except StoreFault:
            self._refuses_writes = True
            raise
        self._refuses_writes = False
        metrics.STORE_WRITTEN_BYTES.add(len(body))

    def _try(self, verb: str, key: str, call: Callable[[], T]) -> T:
        first_error: list[Exception] = []
        try:
            # The first try is made without tenacity, which costs as much as reading a local footer.
            return self._call(call)
        except FleetError:
            raise
        except Exception as error:  # noqa: BLE001
            first_error.append(error)

        def try_again() -> T:
            if first_error:
                raise first_error.pop()
            return self._call(call)

        retrying = STORE.retrying(
            may_recover, sleep=self._sleep, before_sleep=lambda state: log_retry(verb, key, state)
        )
        try:
            return retrying(try_again)
        except FleetError:
            raise
        except Exception as error:
            raise self._fault(verb, key, error) from error

    def _call(self, call: Callable[[], T]) -> T:
        """Make one try."""
        return call()

    def _fault(self, verb: str, key: str, error: Exception) -> StoreFault:
        return StoreFault(f"could not {verb} in the store ({self.address(key)}): {in_words(error)}")


def count_read(body: bytes | None) -> bytes | None:
    """Return `body`, and count its bytes as read."""
    metrics.STORE_READ_BYTES.add(len(body or b""))
    return body


def none_if_missing(call: Callable[..., T], *args: Any) -> T | None:
    """Return what `call` returns, None if it raises FileNotFoundError."""
    try:
        return call(*args)
    except FileNotFoundError:
        return None


def may_recover(error: BaseException) -> bool:
    """Return True if the same call may succeed later.

    It cannot where access is denied, links lead in a circle or a condition failed. It may after
    FileNotFoundError, since another process removes a folder while it is empty.
    """
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return False
    return isinstance(error, Exception) and not isinstance(
        error, FleetError | PermissionError | NotADirectoryError | IsADirectoryError
    )


def log_retry(verb: str, key: str, state: RetryCallState) -> None:
    """Log and count a failed try."""
    error = state.outcome.exception() if state.outcome else None
    metrics.RETRIES.add(source="store", reason=type(error).__name__)
    why = in_words(error) if error else "no reason"
    logger.warning("could not %s %s in the store, trying again: %s", verb, key, why)

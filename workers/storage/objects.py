"""Objects in a folder or in S3, one code path through fsspec: read, list, put, publish, delete.

Publishing is conditional: it replaces exactly the version that the caller has read, or fails with
`VersionConflict`. S3 does that itself; in a folder it is done under a lock, by writing beside and
renaming.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tenacity import RetryCallState

from klinefleet.workers.domain.errors import FleetError, StoreFault
from klinefleet.workers.support import metrics
from klinefleet.workers.support.retry import STORE, RetryPolicy

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing."""

    key: str
    etag: str
    size: int


class ObjectStore:
    """The objects below one root. Keys are relative to it.

    StoreFault when the store fails after several tries.
    """

    #: Whether reading it costs a round trip, so that a copy on this machine pays.
    is_remote = False

    def __init__(self, fs: Any, root: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self._sleep = sleep

    def read(self, key: str) -> bytes | None:
        """Return the object's bytes, None where there is none."""
        return count_read(
            self._try("read", key, lambda: none_if_missing(self._fs.cat_file, self._path(key)))
        )

    def tail(self, key: str, size: int) -> bytes | None:
        """Return the object's last `size` bytes, or all where it has fewer; None where there is
        none.
        """
        return count_read(
            self._try("read", key, lambda: none_if_missing(self._tail, self._path(key), size))
        )

    def etag(self, key: str) -> str | None:
        """Return what tells this version of the object from any other, None where there is none."""
        return self._try(
            "look at",
            key,
            lambda: none_if_missing(lambda p: self._etag(self._fs.info(p)), self._path(key)),
        )

    def list(self, folder: str) -> list[StoredObject]:
        """Return every object below a folder, sorted by key."""
        found = self._try("list", folder, lambda: self._find(self._path(folder)))
        start = len(self._root) + 1
        return [
            StoredObject(path[start:], self._etag(info), int(info["size"]))
            for path, info in sorted(found.items())
            if not path.rpartition("/")[2].startswith(".")
        ]

    def put(self, key: str, body: bytes) -> None:
        """Store an object whose name tells its content: a second copy is the same object."""
        self._try("write", key, lambda: self._put(self._path(key), body))
        metrics.STORE_WRITTEN_BYTES.add(len(body))

    def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
        """Replace the version `replaces` (None: there was none) of an object; VersionConflict if it
        is another.
        """
        self._try("publish", key, lambda: self._publish(self._path(key), body, replaces))
        metrics.STORE_WRITTEN_BYTES.add(len(body))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error."""
        for key in keys:
            self._try("delete", key, partial(none_if_missing, self._remove, self._path(key)))

    def address(self, key: str) -> str:
        """Return where other programs find the object: a path, or s3://bucket/key."""
        return self._path(key)

    def polars_options(self) -> dict[str, str] | None:
        """Return the storage options by which Polars reads an `address`; None: it needs none."""
        return None

    def duckdb_filesystem(self) -> Any:
        """Return the fsspec filesystem by which DuckDB reads an `address`; None: its own does."""
        return None

    def check_writable(self) -> None:
        """Raise StoreFault or OSError where nothing can be written."""
        key = f"raw/.writable-{uuid.uuid4().hex}"
        # Another process may take the folder away just now, as it has become empty.
        retrying = RetryPolicy(STORE.tries, 0.0).retrying(
            lambda error: isinstance(error, FileNotFoundError)
        )
        retrying(self._put, self._path(key), b"")
        self.delete([key])

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _find(self, path: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._fs.find(path, detail=True)
        return found

    def _tail(self, path: str, size: int) -> bytes:
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

    def _try(self, verb: str, key: str, call: Callable[[], T]) -> T:
        failed: list[Exception] = []
        try:
            # Nearly all calls: to look after tries costs as much as to read a local file's end.
            return call()
        except FleetError:
            raise
        except Exception as error:  # noqa: BLE001
            failed.append(error)

        def again() -> T:
            if failed:
                raise failed.pop()
            return call()

        retrying = STORE.retrying(
            may_pass, sleep=self._sleep, before_sleep=lambda state: log_retry(verb, key, state)
        )
        try:
            return retrying(again)
        except FleetError:
            raise
        except Exception as error:
            raise StoreFault(
                f"could not {verb} {self._path(key)}: {type(error).__name__}: {error}"
            ) from error


def count_read(body: bytes | None) -> bytes | None:
    metrics.STORE_READ_BYTES.add(len(body or b""))
    return body


def none_if_missing(call: Callable[..., T], *args: Any) -> T | None:
    try:
        return call(*args)
    except FileNotFoundError:
        return None


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: not where access is denied, and not where a
    condition failed.

    FileNotFoundError may: a writer's folder was empty and has just been removed with what was in
    it.
    """
    return isinstance(error, Exception) and not isinstance(
        error, FleetError | PermissionError | NotADirectoryError | IsADirectoryError
    )


def log_retry(verb: str, key: str, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    metrics.RETRIES.add(source="store", reason=type(error).__name__)
    logger.warning("store: could not %s %s, trying again: %s", verb, key, error)

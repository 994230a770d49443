"""Objects in a folder or in S3, one code path through fsspec: read, list, put, publish, delete.

Publishing is conditional: it replaces exactly the version that the caller has read, or fails with `Changed`.
S3 does that itself; in a folder it is done under a lock, by writing beside and renaming.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from workers import metrics
from workers.errors import FleetError, StoreFault
from workers.lake.quick_ack import quick_ack

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Tries of one store call, and the longest pause between two, seconds.
TRIES, LONGEST_PAUSE_S = 6, 5.0

#: The largest object that S3 takes in one PUT; a conditional write must be one.
_ONE_PUT_BYTES = 5 * 2**30


class Changed(FleetError):
    """Somebody published another version since it was read; nothing was written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing."""

    key: str
    etag: str
    size: int


class Files:
    """The objects below one root. Keys are relative to it. StoreFault when the store fails after several tries."""

    def __init__(self, fs: Any, root: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self._sleep = sleep

    def read(self, key: str) -> bytes | None:
        """Return the object's bytes, None where there is none."""
        return _read(self._try("read", key, lambda: _none_if_missing(self._fs.cat_file, self._path(key))))

    def tail(self, key: str, size: int) -> bytes | None:
        """Return the object's last `size` bytes, or all where it has fewer; None where there is none."""
        return _read(self._try("read", key, lambda: _none_if_missing(self._tail, self._path(key), size)))

    def etag(self, key: str) -> str | None:
        """Return what tells this version of the object from any other, None where there is none."""
        return self._try(
            "look at", key, lambda: _none_if_missing(lambda p: self._etag(self._fs.info(p)), self._path(key))
        )

    def list(self, folder: str) -> list[Entry]:
        """Return every object below a folder, sorted by key."""
        found = self._try("list", folder, lambda: self._find(self._path(folder)))
        start = len(self._root) + 1
        return [
            Entry(path[start:], self._etag(info), int(info["size"]))
            for path, info in sorted(found.items())
            if not path.rpartition("/")[2].startswith(".")
        ]

    def put(self, key: str, body: bytes) -> None:
        """Store an object whose name tells its content: a second copy is the same object."""
        self._try("write", key, lambda: self._put(self._path(key), body))
        metrics.STORE_WRITTEN_BYTES.add(len(body))

    def publish(self, key: str, body: bytes, *, replaces: str | None) -> None:
        """Store an object in place of the version `replaces` (None: there was none); Changed where that is not it."""
        self._try("publish", key, lambda: self._publish(self._path(key), body, replaces))
        metrics.STORE_WRITTEN_BYTES.add(len(body))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error."""
        for key in keys:
            self._try("delete", key, partial(_none_if_missing, self._remove, self._path(key)))

    def address(self, key: str) -> str:
        """Return where other programs find the object: a path, or s3://bucket/key."""
        return self._path(key)

    def check_writable(self) -> None:
        """Raise StoreFault or OSError where nothing can be written."""
        key = f"raw/.writable-{uuid.uuid4().hex}"
        # Another process may take the folder away just now, as it has become empty.
        tries = Retrying(retry=retry_if_exception_type(FileNotFoundError), stop=stop_after_attempt(TRIES), reraise=True)
        tries(self._put, self._path(key), b"")
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

        retrying = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_S),
            retry=retry_if_exception(_may_pass),
            before_sleep=lambda state: _log(verb, key, state),
            reraise=True,
            sleep=self._sleep,
        )
        try:
            return retrying(again)
        except FleetError:
            raise
        except Exception as error:
            raise StoreFault(f"could not {verb} {self._path(key)}: {type(error).__name__}: {error}") from error


class FolderFiles(Files):
    """A plain folder; other processes of this machine may write to it at the same time."""

    def _etag(self, info: dict[str, Any]) -> str:
        return f"{info['ino']:x}-{int(info['mtime'] * 1e6):x}-{info['size']:x}"

    def _find(self, path: str) -> dict[str, dict[str, Any]]:
        """Return every file below a folder; what goes meanwhile is not there. Ten times as fast as fsspec's."""
        found, folders = dict[str, dict[str, Any]](), [path]
        while folders:
            with suppress(FileNotFoundError), os.scandir(folders.pop()) as listed:
                for entry in listed:
                    if entry.is_dir():
                        folders.append(entry.path)
                    else:
                        with suppress(FileNotFoundError):
                            told = entry.stat()
                            found[entry.path] = {"ino": told.st_ino, "mtime": told.st_mtime, "size": told.st_size}
        return found

    def _tail(self, path: str, size: int) -> bytes:
        # Footers are read by the ten thousand: a file object would cost three times as much.
        handle = os.open(path, os.O_RDONLY)
        try:
            return os.pread(handle, size, max(0, os.fstat(handle).st_size - size))
        finally:
            os.close(handle)

    def _remove(self, path: str) -> None:
        super()._remove(path)
        # Folders that became empty go too; S3 has none.
        with suppress(OSError):
            for folder in Path(path).relative_to(self._root).parents[:-1]:
                (Path(self._root) / folder).rmdir()

    def _put(self, path: str, body: bytes) -> None:
        beside = self._beside(path)
        self._fs.pipe_file(beside, body)
        Path(beside).replace(path)

    def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
        beside = self._beside(path)
        with Path(beside).open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        with _locked(Path(path).parent) as folder:
            held = _none_if_missing(self._version, path)
            if held != replaces:
                Path(beside).unlink()
                raise Changed(f"{path}: version {replaces} was read, {held} is there; nothing was written")
            Path(beside).replace(path)
            os.fsync(folder)

    def _beside(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        Path(folder).mkdir(parents=True, exist_ok=True)
        return f"{folder}/.{name}.{uuid.uuid4().hex}"


class ObjectFiles(Files):
    """A bucket of an S3 server that answers conditional PUTs."""

    def _etag(self, info: dict[str, Any]) -> str:
        # AWS takes If-Match with and without quotes, other servers only without.
        return str(info["ETag"]).strip('"')

    def _put(self, path: str, body: bytes) -> None:
        self._fs.pipe_file(path, body, chunksize=_ONE_PUT_BYTES)

    def address(self, key: str) -> str:
        return f"s3://{self._path(key)}"

    def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
        condition = {"IfMatch": replaces} if replaces else {"IfNoneMatch": "*"}
        try:
            self._fs.pipe_file(path, body, chunksize=_ONE_PUT_BYTES, **condition)
        except OSError as error:
            if _error_code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey"):
                raise Changed(f"{path}: version {replaces} was read, another is there; nothing was written") from error
            raise


def open_files(store_url: str, *, sleep: Callable[[float], None] = time.sleep) -> Files:
    """Return the objects of a folder or of s3://bucket/prefix; nothing is asked of the store yet."""
    if not store_url.startswith("s3://"):
        return FolderFiles(fsspec.filesystem("file", auto_mkdir=True), str(Path(store_url).absolute()), sleep=sleep)
    # One GET and one PUT an object: partitions are small, and a conditional write must be one request.
    fs = s3_filesystem(max_concurrency=1, use_listings_cache=False)
    fs.retries = 1
    return ObjectFiles(fs, store_url.removeprefix("s3://"), sleep=sleep)


def s3_filesystem(**options: Any) -> Any:
    """Return fsspec's view of the S3 server that the environment names."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fsspec.filesystem(
        "s3",
        session=_s3_session(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))),
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL"),
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={"connector_args": {"socket_factory": quick_ack}},
        **options,
    )


@cache
def _s3_session(environment: tuple[tuple[str, str], ...]) -> Any:
    """Return what clients of S3 come from in this environment; a listing's times are read by the quick parser."""
    from aiobotocore.session import get_session
    from botocore.utils import parse_timestamp

    def parsed(told: Any) -> datetime:
        try:
            return datetime.fromisoformat(told)
        except (TypeError, ValueError):
            moment: datetime = parse_timestamp(told)
            return moment

    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parsed)
    return session


def _read(body: bytes | None) -> bytes | None:
    metrics.STORE_READ_BYTES.add(len(body or b""))
    return body


def _none_if_missing(call: Callable[..., T], *args: Any) -> T | None:
    try:
        return call(*args)
    except FileNotFoundError:
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold the folder's lock; it goes with the process, so a killed one never leaves it behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: not where access is denied, and not where a condition failed.

    FileNotFoundError may: a writer's folder was empty and has just been removed with what was in it.
    """
    return isinstance(error, Exception) and not isinstance(
        error, FleetError | PermissionError | NotADirectoryError | IsADirectoryError
    )


def _error_code(error: OSError) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _log(verb: str, key: str, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    metrics.RETRIES.add(source="store", reason=type(error).__name__)
    logger.warning("store: could not %s %s, trying again: %s", verb, key, error)

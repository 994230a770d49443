"""The object store in a bucket of an S3 server."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import fsspec

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.patches.s3_timestamps import s3_session
from klinefleet.workers.patches.tcp_quickack import quick_ack
from klinefleet.workers.storage.faults import causes_of, class_names, error_code
from klinefleet.workers.storage.objects import TRIALS, ObjectStore
from klinefleet.workers.support.settings import reread_credentials
from klinefleet.workers.support.temp_files import is_left_over

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two times that credentials are read again.
_REOPEN_PAUSE_S = 10.0
#: Error codes of a server that refuses our credentials, and errors of a client that has none.
_CREDENTIAL_CODES = frozenset(
    {
        "403",
        "AccessDenied",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_NO_CREDENTIALS = frozenset(
    {
        "CredentialRetrievalError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
#: Largest object that S3 accepts in one PUT; a conditional write must be one PUT.
_MAX_PUT_BYTES = 5 * 2**30
#: Bytes that DuckDB reads ahead with each GET; a month of one column has about 300 kB.
_READ_AHEAD_BYTES = 1 << 20
#: Error codes of a conditional PUT whose condition failed; NoSuchKey: the object was deleted.
_CONFLICT_CODES = ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey")


class S3Store(ObjectStore):
    """A bucket of an S3 server that supports conditional PUTs.

    Where the server refuses our credentials, they are read again, for they may have been replaced.
    reopen: returns a file system with credentials that are read anew.
    """

    is_remote = True
    _trial_bytes = 1 << 16

    def __init__(
        self,
        fs: Any,
        root: str,
        *,
        reopen: Callable[[], Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(fs, root, sleep=sleep)
        self._reopen, self._clock = reopen, clock
        self._reopened_s = -_REOPEN_PAUSE_S
        self._lock = threading.Lock()

    def _call(self, call: Callable[[], T]) -> T:
        used = self._fs
        try:
            return call()
        except Exception as error:
            if not _is_of_credentials(error) or self._with_new_credentials() is used:
                raise
        return call()

    def _with_new_credentials(self) -> Any:
        """Return the file system, opened anew unless that was done a moment ago."""
        with self._lock:
            if self._reopen and self._clock() - self._reopened_s >= _REOPEN_PAUSE_S:
                self._reopened_s = self._clock()
                logger.info("the store refuses our credentials: they are read again")
                self._fs = self._reopen()
            return self._fs

    def sweep(self, folders: Iterable[str]) -> None:
        # A PUT is whole or nothing; what may stay is a trial write, in one folder.
        path = self._path(TRIALS)
        found = self._try("list", TRIALS, lambda: self._find(path))
        for name, info in found.items():
            if is_left_over(name.rpartition("/")[2], info["LastModified"].timestamp()):
                self.delete([name.removeprefix(self._path(""))])

    def _etag(self, info: dict[str, Any]) -> str:
        # AWS accepts If-Match with and without quotes, other servers only without.
        return str(info["ETag"]).strip('"')

    def _put(self, path: str, body: bytes) -> None:
        self._fs.pipe_file(path, body, chunksize=_MAX_PUT_BYTES)

    def address(self, key: str) -> str:
        return f"s3://{self._path(key)}"

    def polars_options(self) -> dict[str, str]:
        # Polars reads the other AWS_* variables itself, and no credentials file.
        url = os.environ.get("AWS_ENDPOINT_URL", "")
        options = {"aws_region": _region() or "us-east-1", **_credentials_of_files()}
        if url:
            options["aws_endpoint_url"] = url
        if url.startswith("http://"):
            options["aws_allow_http"] = "true"
        return options

    def duckdb_filesystem(self) -> Any:
        # With the cache, one listing answers all of DuckDB's requests about folders and files.
        return s3_filesystem(
            use_listings_cache=True, default_block_size=_READ_AHEAD_BYTES, skip_instance_cache=True
        )

    def _publish(self, path: str, body: bytes, replaces: str | None) -> None:
        condition = {"IfMatch": replaces} if replaces else {"IfNoneMatch": "*"}
        try:
            self._fs.pipe_file(path, body, chunksize=_MAX_PUT_BYTES, **condition)
        except OSError as error:
            if error.__cause__ and error_code(error.__cause__) in _CONFLICT_CODES:
                raise VersionConflict(
                    f"{path} changed from version {replaces} since it was read; nothing was written"
                ) from error
            raise


def _is_of_credentials(error: BaseException) -> bool:
    """Return whether a call failed for its credentials."""
    causes = causes_of(error)
    codes = {error_code(cause) for cause in causes}
    return bool(class_names(causes) & _NO_CREDENTIALS or codes & _CREDENTIAL_CODES)


def new_s3_filesystem(**options: Any) -> Any:
    """Return the filesystem with credentials that are read anew, from files and `.env` too."""
    reread_credentials()
    s3_session.cache_clear()
    return s3_filesystem(skip_instance_cache=True, **options)


def s3_filesystem(**options: Any) -> Any:
    """Return the fsspec filesystem of the S3 server that AWS_* variables name."""
    region = _region()
    aws_variables = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    return fsspec.filesystem(
        "s3",
        session=s3_session(tuple(aws_variables)),
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL"),
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={"connector_args": {"socket_factory": quick_ack}},
        **options,
    )


def _credentials_of_files() -> dict[str, str]:
    """Return the credentials that no variable names, as Polars wants them; empty without any."""
    from botocore.session import get_session

    found = None if "AWS_ACCESS_KEY_ID" in os.environ else get_session().get_credentials()
    if found is None:
        return {}
    keys = found.get_frozen_credentials()
    options = {"aws_access_key_id": keys.access_key, "aws_secret_access_key": keys.secret_key}
    return options | ({"aws_session_token": keys.token} if keys.token else {})


def _region() -> str | None:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")

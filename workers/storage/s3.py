"""The object store in a bucket of an S3 server."""

from __future__ import annotations

import os
from typing import Any

import fsspec

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.patches.s3_timestamps import s3_session
from klinefleet.workers.patches.tcp_quickack import quick_ack
from klinefleet.workers.storage.faults import error_code
from klinefleet.workers.storage.objects import ObjectStore

#: Largest object that S3 accepts in one PUT; a conditional write must be one PUT.
_MAX_PUT_BYTES = 5 * 2**30
#: Bytes that DuckDB reads ahead with each GET; a month of one column has about 300 kB.
_READ_AHEAD_BYTES = 1 << 20
#: Error codes of a conditional PUT whose condition failed; NoSuchKey: the object was deleted.
_CONFLICT_CODES = ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey")


class S3Store(ObjectStore):
    """A bucket of an S3 server that supports conditional PUTs."""

    is_remote = True

    def _etag(self, info: dict[str, Any]) -> str:
        # AWS accepts If-Match with and without quotes, other servers only without.
        return str(info["ETag"]).strip('"')

    def _put(self, path: str, body: bytes) -> None:
        self._fs.pipe_file(path, body, chunksize=_MAX_PUT_BYTES)

    def address(self, key: str) -> str:
        return f"s3://{self._path(key)}"

    def polars_options(self) -> dict[str, str]:
        # Polars reads the other AWS_* variables itself.
        url = os.environ.get("AWS_ENDPOINT_URL", "")
        options = {"aws_region": _region() or "us-east-1"}
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


def _region() -> str | None:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")

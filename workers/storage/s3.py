"""Objects in a bucket of an S3 server."""

from __future__ import annotations

import os
from typing import Any

import fsspec

from klinefleet.workers.domain.errors import VersionConflict
from klinefleet.workers.patches.s3_timestamps import s3_session
from klinefleet.workers.patches.tcp_quickack import quick_ack
from klinefleet.workers.storage.objects import ObjectStore

#: The largest object that S3 takes in one PUT; a conditional write must be one.
_ONE_PUT_BYTES = 5 * 2**30


class S3Store(ObjectStore):
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
            if _error_code(error) in (
                "PreconditionFailed",
                "412",
                "ConditionalRequestConflict",
                "NoSuchKey",
            ):
                raise VersionConflict(
                    f"{path}: version {replaces} was read, another is there; nothing was written"
                ) from error
            raise


def s3_filesystem(**options: Any) -> Any:
    """Return fsspec's view of the S3 server that the environment names."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fsspec.filesystem(
        "s3",
        session=s3_session(
            tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
        ),
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL"),
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={"connector_args": {"socket_factory": quick_ack}},
        **options,
    )


def _error_code(error: OSError) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))

"""Make the bucket of KLINES_STORE_URL and check its server: `python -m deploy.bucket`.

Partitions are replaced by a PUT that names the version it replaces. A server that ignores the
condition, or checks it before the bytes arrive and not when they are kept, lets one worker's rows
be overwritten by another's, silently. Exit 0: the bucket is there and the server can be trusted
with it. 1: one line says what is wrong.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

#: A server that has just been started answers within this, seconds.
ANSWERS_WITHIN_S = 60.0
PAUSE_S = 0.5
#: Writers that create one object at once; a server that checks and then writes lets several in.
WRITERS = 8
ROUNDS = 3

#: How S3 says that a condition did not hold; a 409 is a writer that lost to another one at the same
#: moment.
REFUSALS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class Unfit(Exception):
    """The store cannot be used; the message says why."""


def main() -> int:
    """Check the bucket, print the result, and return the exit code."""
    store = os.environ.get("KLINES_STORE_URL", "")
    if not store.startswith("s3://"):
        print(f"{store or 'no store'} is not a bucket; nothing to do")
        return 0
    bucket, _, prefix = store.removeprefix("s3://").strip("/").partition("/")
    try:
        s3 = client()
        await_bucket(s3, bucket)
        prove(s3, bucket, prefix)
    except (Unfit, BotoCoreError, ClientError) as error:
        print(f"bucket {bucket}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"bucket {bucket} is there, and its server honours conditional PUTs")
    return 0


def client() -> Any:
    """Return a client of the server that AWS_ENDPOINT_URL names (empty or unset: AWS itself)."""
    region = os.environ.get("AWS_REGION") or "us-east-1"
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=20,
        s3={"addressing_style": "path"},
    )
    url = os.environ.get("AWS_ENDPOINT_URL") or None
    return botocore.session.get_session().create_client(
        "s3", region_name=region, endpoint_url=url, config=config
    )


def await_bucket(
    s3: Any,
    bucket: str,
    *,
    within_s: float = ANSWERS_WITHIN_S,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once the bucket exists; make it if need be.

    Unfit where the server refuses, or does not answer in time.
    """
    ends = time.monotonic() + within_s
    while True:
        try:
            _make(s3, bucket)
            return
        except (BotoCoreError, ClientError) as error:
            if _status(error) in (400, 403):
                raise Unfit(
                    f"the server refuses: {error}; are AWS_ACCESS_KEY_ID and its secret right?"
                ) from error
            if time.monotonic() > ends:
                raise Unfit(f"no answer within {within_s:.0f} s: {error}") from error
        sleep(PAUSE_S)


def prove(s3: Any, bucket: str, prefix: str) -> None:
    """Return if the server honours every condition; Unfit names the first that it does not."""
    for _ in range(ROUNDS):
        key = "/".join(part for part in (prefix, "raw", f".condition-{uuid.uuid4().hex}") if part)
        try:
            _prove_one_first(s3, bucket, key)
            _prove_versions(s3, bucket, key)
        finally:
            s3.delete_object(Bucket=bucket, Key=key)


def _prove_one_first(s3: Any, bucket: str, key: str) -> None:
    with ThreadPoolExecutor(WRITERS) as writers:
        kept = sum(
            writers.map(lambda n: _put(s3, bucket, key, f"{n}", IfNoneMatch="*"), range(WRITERS))
        )
    if kept != 1:
        raise Unfit(
            f"of {WRITERS} PUTs at once with If-None-Match: * the server kept {kept}, not one: "
            "unfit as a store, since two workers would overwrite each other's rows"
        )


def _prove_versions(s3: Any, bucket: str, key: str) -> None:
    stale = _etag(s3, bucket, key)
    if _put(s3, bucket, key, "again", IfNoneMatch="*"):
        raise Unfit(
            "a PUT with If-None-Match: * replaced what was there: the server ignores the condition"
        )
    if not _put(s3, bucket, key, "second", IfMatch=stale):
        raise Unfit(
            "a PUT with the right If-Match was refused: no partition could ever be replaced"
        )
    if _put(s3, bucket, key, "third", IfMatch=stale):
        raise Unfit(
            "a PUT with an outdated If-Match replaced a newer version: the server ignores the "
            "condition"
        )


def _put(s3: Any, bucket: str, key: str, body: str, **condition: str) -> bool:
    """Return whether it was kept; False where the condition did not hold."""
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body.encode(), **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] in REFUSALS:
            return False
        raise
    return True


def _etag(s3: Any, bucket: str, key: str) -> str:
    # Without its quotes: AWS takes both, other servers only the bare one.
    return str(s3.head_object(Bucket=bucket, Key=key)["ETag"]).strip('"')


def _make(s3: Any, bucket: str) -> None:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if _status(error) != 404:
            raise
        region = s3.meta.region_name
        # AWS wants its first region unnamed.
        where = (
            {}
            if region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        s3.create_bucket(Bucket=bucket, **where)


def _status(error: Exception) -> int:
    response = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


if __name__ == "__main__":
    sys.exit(main())

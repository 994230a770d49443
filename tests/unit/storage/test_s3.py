"""Conditional writes to a bucket."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from klinefleet.workers.domain.errors import StoreFault, VersionConflict
from klinefleet.workers.storage.s3 import S3Store
from klinefleet.workers.support.retry import STORE


class Bucket:
    """A bucket that answers conditional PUTs as S3 does, as far as `publish` sees it."""

    def __init__(self, code: str | None = None) -> None:
        self.code = code
        self.put: list[dict[str, Any]] = []

    def pipe_file(self, path: str, body: bytes, **options: Any) -> None:
        self.put.append({"path": path, "body": body, **options})
        if self.code:
            cause = Exception("from the server")
            cause.response = {"Error": {"Code": self.code}}  # type: ignore[attr-defined]
            raise OSError(errno.EIO, self.code) from cause

    def info(self, path: str) -> dict[str, Any]:
        return {"ETag": '"abc"', "size": 3}


@pytest.mark.parametrize(
    ("replaces", "condition"), [("abc", {"IfMatch": "abc"}), (None, {"IfNoneMatch": "*"})]
)
def test_a_bucket_is_asked_to_replace_one_version_in_one_put(
    replaces: str | None, condition: dict[str, str]
) -> None:
    bucket = Bucket()
    S3Store(bucket, "bucket/prefix").publish("a/1", b"one", replaces=replaces)
    [put] = bucket.put
    assert (put["path"], put["body"]) == ("bucket/prefix/a/1", b"one")
    assert {name: put[name] for name in ("IfMatch", "IfNoneMatch") if name in put} == condition
    assert put["chunksize"] >= 5 * 2**30


@pytest.mark.parametrize(
    "code", ["PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey"]
)
def test_a_bucket_that_holds_another_version_says_changed_and_is_asked_once(code: str) -> None:
    bucket = Bucket(code)
    with pytest.raises(VersionConflict):
        S3Store(bucket, "bucket", sleep=lambda _: pytest.fail("slept")).publish(
            "a/1", b"one", replaces="abc"
        )
    assert len(bucket.put) == 1


def test_a_bucket_that_fails_otherwise_is_tried_again_with_the_same_condition() -> None:
    bucket = Bucket("SlowDown")
    with pytest.raises(StoreFault, match="the server is too busy"):
        S3Store(bucket, "bucket", sleep=lambda _: None).publish("a/1", b"one", replaces="abc")
    assert [put["IfMatch"] for put in bucket.put] == ["abc"] * STORE.tries


def test_tags_of_a_bucket_are_read_without_their_quotes() -> None:
    assert S3Store(Bucket(), "bucket").etag("a/1") == "abc"

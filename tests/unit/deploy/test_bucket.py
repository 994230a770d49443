"""The check for conditional PUTs, against servers that honour them and servers that do not."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from deploy.bucket import WRITERS, Unfit, await_bucket, main, prove


class Server:
    """As much of S3 as is asked; flaws are what it ignores."""

    meta = type("Meta", (), {"region_name": "eu-west-1"})

    def __init__(self, *flaws: str, silent_calls: int = 0, status: int = 404) -> None:
        self.flaws = flaws
        self.objects: dict[str, bytes] = {}
        self.made: list[dict[str, Any]] = []
        self._silent_calls, self._status = silent_calls, status
        self._lock = threading.Lock()
        self._all_looked = threading.Barrier(WRITERS)

    def head_bucket(self, Bucket: str) -> None:
        if self._silent_calls:
            self._silent_calls -= 1
            raise EndpointConnectionError(endpoint_url="http://s3")
        if not self.made:
            raise _error("NoSuchBucket", self._status)

    def create_bucket(self, **told: Any) -> None:
        self.made.append(told)

    def put_object(
        self, Bucket: str, Key: str, Body: bytes, IfMatch: str = "", IfNoneMatch: str = ""
    ) -> None:
        if "looks first" in self.flaws and IfNoneMatch and Key not in self.objects:
            self._all_looked.wait(5)
            self.objects[Key] = Body
            return
        with self._lock:
            held = self.objects.get(Key)
            if IfNoneMatch and held is not None and "ignores If-None-Match" not in self.flaws:
                raise _error("PreconditionFailed", 412)
            if (
                IfMatch
                and (held is None or IfMatch != _etag(held))
                and "ignores If-Match" not in self.flaws
            ):
                raise _error("PreconditionFailed", 412)
            if IfMatch and "refuses If-Match" in self.flaws:
                raise _error("PreconditionFailed", 412)
            self.objects[Key] = Body

    def head_object(self, Bucket: str, Key: str) -> dict[str, str]:
        return {"ETag": f'"{_etag(self.objects[Key])}"'}

    def delete_object(self, Bucket: str, Key: str) -> None:
        self.objects.pop(Key, None)


def test_a_server_that_honours_conditions_is_fit_and_nothing_stays_behind() -> None:
    server = Server()
    prove(server, "lake", "a/prefix")
    assert server.objects == {}


@pytest.mark.parametrize(
    ("flaw", "said"),
    [
        (
            "ignores If-None-Match",
            f"of {WRITERS} PUTs at once with If-None-Match: * the server kept {WRITERS}",
        ),
        (
            "looks first",
            f"of {WRITERS} PUTs at once with If-None-Match: * the server kept {WRITERS}",
        ),
        ("ignores If-Match", "a PUT with an outdated If-Match replaced a newer version"),
        ("refuses If-Match", "a PUT with the right If-Match was refused"),
    ],
)
def test_a_server_that_does_not_is_told_by_what_it_did(flaw: str, said: str) -> None:
    server = Server(flaw)
    with pytest.raises(Unfit, match=said.replace("*", r"\*")):
        prove(server, "lake", "")
    assert server.objects == {}


def test_a_server_that_is_still_starting_is_waited_for_and_gets_its_bucket() -> None:
    server, slept = Server(silent_calls=3), list[float]()
    await_bucket(server, "lake", sleep=slept.append)
    assert len(slept) == 3
    assert server.made == [
        {"Bucket": "lake", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    ]
    await_bucket(server, "lake", sleep=slept.append)
    assert len(server.made) == 1


def test_wrong_keys_are_not_waited_for() -> None:
    with pytest.raises(Unfit, match="are AWS_ACCESS_KEY_ID and its secret right"):
        await_bucket(Server(status=403), "lake", sleep=lambda _: pytest.fail("it waited"))


def test_a_server_that_stays_silent_is_given_up() -> None:
    with pytest.raises(Unfit, match="no answer within 0 s"):
        await_bucket(Server(silent_calls=99), "lake", within_s=0, sleep=lambda _: None)


def test_a_folder_needs_no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINES_STORE_URL", "./data")
    assert main() == 0


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _error(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject"
    )

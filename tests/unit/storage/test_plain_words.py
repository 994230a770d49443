"""A failure of the store is told in our own words, without a library's text."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.storage.s3 import S3Store
from tests.unit.helpers.plain_words import assert_plain


class Down:
    """A file system of which every call fails."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            raise self._error

        return call


class ClientError(Exception):
    """As botocore has it."""

    def __init__(self, code: str) -> None:
        super().__init__(f"An error occurred ({code}) when calling the PutObject operation")
        self.response = {"Error": {"Code": code, "Message": "what the server wrote"}}


class EndpointConnectionError(Exception):
    """As botocore has it."""


class NoCredentialsError(Exception):
    """As botocore has it."""


def translated(error: OSError, code: str) -> OSError:
    """Return an error as s3fs raises it."""
    error.__cause__ = ClientError(code)
    return error


def refused() -> Exception:
    error = EndpointConnectionError('Could not connect to the endpoint URL: "http://s3"')
    error.__context__ = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            translated(FileNotFoundError("The specified bucket does not exist"), "NoSuchBucket"),
            "the bucket does not exist",
        ),
        (translated(PermissionError("Access Denied"), "AccessDenied"), "access was denied"),
        (
            translated(PermissionError("The AWS Access Key Id"), "InvalidAccessKeyId"),
            "the server does not know the access key",
        ),
        (
            translated(OSError(errno.EIO, "An error occurred"), "Teapot"),
            "the server answered Teapot",
        ),
        (refused(), "the server refused the connection"),
        (
            NoCredentialsError("Unable to locate credentials"),
            "no credentials are set, see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (TimeoutError("timed out"), "the server did not answer in time"),
        (PermissionError(errno.EACCES, "not yours"), "Permission denied"),
        (OSError(errno.ENOSPC, "full"), "No space left on device"),
        (RuntimeError("Session is closed"), "the call failed with RuntimeError"),
    ],
)
def test_no_failure_of_the_store_shows_a_librarys_text(error: Exception, words: str) -> None:
    store = S3Store(Down(error), "bucket/lake", sleep=lambda _: None)
    with pytest.raises(StoreFault) as failed:
        store.put("raw/one", b"one")
    assert str(failed.value) == (
        f"could not write in the store (s3://bucket/lake/raw/one): {words}"
    )
    assert_plain(failed.value)
    with pytest.raises(StoreFault, match=words):
        store.check_writable()

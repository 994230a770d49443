"""Why a store failed, in words: no library's text is passed through."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable

logger = logging.getLogger(__name__)

#: Error codes of S3 servers.
_CODES = {
    "NoSuchBucket": "the bucket does not exist",
    "AccessDenied": "access was denied",
    "403": "access was denied",
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "InvalidToken": "the server does not know the session token",
    "TokenRefreshRequired": "the credentials have expired",
    "InvalidClientTokenId": "the server does not know the access key",
    "QuotaExceeded": "the bucket or its user may hold no more",
    "EntityTooLarge": "the object is larger than the server accepts",
    "507": "the server is full",
    "InsufficientStorage": "the server is full",
    "XMinioStorageFull": "the server is full",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SlowDown": "the server is too busy",
    "ServiceUnavailable": "the server is too busy",
    "503": "the server is too busy",
    "InternalError": "the server failed",
    "500": "the server failed",
}
#: Errors on the way to an S3 server, by the names of their classes: their modules take long to
#: import, and a folder needs none of them. The first line that fits counts.
_NAMES = (
    (("gaierror",), "the server's name does not resolve"),
    (("SSLError",), "the server made no TLS connection"),
    (("ConnectionRefusedError",), "the server refused the connection"),
    (
        ("NoCredentialsError", "PartialCredentialsError"),
        "no credentials are set, see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        ("TimeoutError", "ConnectTimeoutError", "ReadTimeoutError"),
        "the server did not answer in time",
    ),
    (
        (
            "ConnectionError",
            "ConnectionClosedError",
            "ServerDisconnectedError",
            "ClientPayloadError",
            "IncompleteRead",
        ),
        "the server closed the connection",
    ),
    (("EndpointConnectionError", "ClientConnectionError"), "the server cannot be reached"),
    (("ResponseParserError",), "the server's answer is not one of S3"),
    (("PermissionError",), "access was denied"),
    (("FileNotFoundError",), "it does not exist"),
)


def in_words(error: BaseException) -> str:
    """Return why the store failed."""
    logger.debug("the store failed: %r", error)
    causes = causes_of(error)
    for cause in causes:
        if code := error_code(cause):
            return _CODES.get(code, f"the server answered {code}")
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    names = class_names(causes)
    for classes, words in _NAMES:
        if names.intersection(classes):
            return words
    return f"the call failed with {type(error).__name__}"


def causes_of(error: BaseException) -> list[BaseException]:
    """Return the error, and the errors that led to it."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    return causes


def class_names(errors: Iterable[BaseException]) -> set[str]:
    """Return the names of the errors' classes and of their base classes."""
    return {one.__name__ for error in errors for one in type(error).__mro__}


def error_code(error: BaseException) -> str:
    """Return the code with which an S3 server answered; empty if it did not."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))

"""What the answers of the exchange and its archive mean, and what a host did that sent none."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from klinefleet.workers.binance.calls.clock import AnswerTooSlow
from klinefleet.workers.binance.calls.session import Answer
from klinefleet.workers.domain.errors import (
    BadAnswer,
    Banned,
    Firewalled,
    FleetError,
    Refused,
    Restricted,
    ServerFault,
    TooManyRequests,
    Unreachable,
)

logger = logging.getLogger(__name__)

#: The end of a ban, alike on spot and futures: "banned until 1659146400000".
_BANNED_UNTIL = re.compile(rb"banned until (\d{13})")

#: What may stand around JSON: a byte order mark before it, and blanks (RFC 8259).
_BOM, _BLANKS = b"\xef\xbb\xbf", b" \t\r\n"
#: Digits of the longest number that a header may hold.
_MOST_DIGITS = 12

#: What a host did, in words: the first line that fits an error or one of its causes.
_WORDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (socket.gaierror, urllib3.exceptions.NameResolutionError),
        "has a name that does not resolve",
    ),
    (
        (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError),
        "cannot be reached through the proxy",
    ),
    ((ssl.SSLCertVerificationError,), "has no valid TLS certificate"),
    ((ssl.SSLError, urllib3.exceptions.SSLError), "made no TLS connection"),
    ((ConnectionRefusedError,), "refused the connection"),
    (
        (requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError),
        "did not answer within {timeout_s:g} s",
    ),
    (
        (ConnectionError, http.client.IncompleteRead, urllib3.exceptions.IncompleteRead),
        "closed the connection before the answer was complete",
    ),
    ((urllib3.exceptions.DecodeError,), "sent an answer that does not unpack"),
    (
        (http.client.HTTPException, urllib3.exceptions.ProtocolError),
        "sent an answer that is not HTTP",
    ),
    (
        (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError),
        "is no valid address",
    ),
)


def unreachable(
    subject: str, url: str, error: BaseException, *, timeout_s: float, detail: str = ""
) -> Unreachable:
    """Return the error of a call whose answer did not come, or not all of it.

    `detail` is of this one call, like a file's key; it stands in brackets.
    """
    logger.debug("%s %s: %s: %r", subject, detail, url, error)
    where = urlsplit(url)
    host = f"{where.scheme}://{where.netloc.rpartition('@')[2]}"
    shown = f" ({detail})" if detail else ""
    return Unreachable(f"{subject}: {host} {_in_words(error, timeout_s)}{shown}; nothing was kept")


def _in_words(error: BaseException, timeout_s: float) -> str:
    """Return what the host did. No library's text is in it."""
    causes = list(_causes(error))
    root = causes[-1]
    if isinstance(root, AnswerTooSlow):
        return f"sent an answer that was not complete after {root.limit_s:g} s"
    if type(root) is OSError and root.errno:
        return f"cannot be reached: {os.strerror(root.errno)}"
    for classes, words in _WORDS:
        if any(isinstance(cause, classes) for cause in causes):
            return words.format(timeout_s=timeout_s)
    return f"gave no answer: the call failed with {type(error).__name__}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, the first cause last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def error_of_answer(subject: str, answer: Answer) -> FleetError | None:
    """Return the error that a REST response stands for; None for a good one."""
    status, headers, body = answer.status, answer.headers, answer.body
    shown = " ".join(body[:200].decode("utf-8", "replace").split())
    after_s = whole_number(headers.get("Retry-After", ""))
    after_ms = None if after_s is None else after_s * 1000
    if status == HTTPStatus.OK:
        # A body that is cut without an announced length does not parse.
        if fault := body_fault(subject, answer):
            return fault
        if bare_json(body)[:1] not in (b"[", b"{"):
            return BadAnswer(f"{subject}: no JSON came ({shown!r}); nothing was kept")
        return None
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TooManyRequests(f"{subject}: 429 {shown}", after_ms=after_ms)
    if until := _BANNED_UNTIL.search(body):
        return Banned(f"{subject}: {status} {shown}", until_ms=int(until[1]), after_ms=after_ms)
    if status == HTTPStatus.IM_A_TEAPOT:
        return Banned(f"{subject}: 418 {shown}", after_ms=after_ms)
    if status == HTTPStatus.FORBIDDEN:
        return Firewalled(f"{subject}: 403, the firewall refuses this address ({shown!r})")
    if status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS:
        return Restricted(f"{subject}: 451, the exchange does not serve this address")
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFault(f"{subject}: {status}, the server failed ({shown!r})")
    return Refused(f"{subject}: {status} {shown}", code=_error_code(body))


def bare_json(body: bytes) -> bytes:
    """Return a body without what may stand around its JSON."""
    return body.removeprefix(_BOM).strip(_BLANKS)


def whole_number(text: str) -> int | None:
    """Return the number that a header holds; None where it holds none of up to 12 digits."""
    return int(text) if len(text) <= _MOST_DIGITS and text.isdecimal() else None


def body_fault(subject: str, answer: Answer, detail: str = "") -> BadAnswer | None:
    """Return an error if more bytes came than were asked for, or fewer than were announced.

    `detail` is of this one call; it stands in brackets.
    """
    came = len(answer.body)
    if answer.is_too_large:
        what, found = "more came than one answer may hold", f"over {came:,} bytes"
    else:
        announced = whole_number(answer.headers.get("Content-Length", ""))
        if announced is None or "Content-Encoding" in answer.headers or announced == came:
            return None
        what, found = "only a part of the answer came", f"{came:,} bytes of {announced:,}"
    shown = f"{detail}: {found}" if detail else found
    return BadAnswer(f"{subject}: {what} ({shown}); nothing was kept")


def _error_code(body: bytes) -> int:
    try:
        return int(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0


def parse_json(body: bytes, shape: type) -> Any:
    """Return the parsed body; BadAnswer unless it is JSON of this shape."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"not JSON ({body[:200]!r}); nothing was kept") from error
    if not isinstance(parsed, shape):
        raise BadAnswer(f"not a {shape.__name__} ({body[:200]!r}); nothing was kept")
    return parsed


def asked_ms(date_ms: int | None) -> int:
    """Return when an answer was asked for, by the exchange's clock, ms UTC.

    A Date tells the second only. This machine's clock gives the milliseconds, so that two questions
    differ; without a Date it gives all.
    """
    local_ms = time.time_ns() // 1_000_000
    return local_ms if date_ms is None else date_ms + local_ms % 1000


def date_ms(headers: Mapping[str, str]) -> int | None:
    """Return the server's clock, ms UTC, to the second; None without a valid Date."""
    try:
        return int(parsedate_to_datetime(headers["Date"]).timestamp()) * 1000
    except (KeyError, ValueError):
        return None

"""The HTTP session to the exchange and its archive, and what a REST answer's status, headers and
body mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from klinefleet.workers.domain.errors import (
    BadAnswer,
    Banned,
    Firewalled,
    FleetError,
    Refused,
    Restricted,
    ServerFault,
    TooManyRequests,
)

#: Names both the ban's form on spot and on futures: "banned until 1659146400000".
_BANNED_UNTIL = re.compile(rb"banned until (\d{13})")


def pooled_session(connections: int, source_address: str | None = None) -> requests.Session:
    """Return a session that keeps up to `connections` connections alive per host, for as many
    threads.
    """
    session = requests.Session()
    # The environment is read once here, not at every call.
    session.proxies.update(get_environ_proxies("https://api.binance.com"))
    session.trust_env = False
    adapter = _BoundAdapter(source_address, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _BoundAdapter(HTTPAdapter):
    """Sends from one of this machine's addresses."""

    def __init__(self, source_address: str | None, **kwargs: Any) -> None:
        self._source_address = source_address
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        if self._source_address:
            kwargs["source_address"] = (self._source_address, 0)
        super().init_poolmanager(*args, **kwargs)


def error_of_answer(
    what: str, status: int, headers: Mapping[str, str], body: bytes
) -> FleetError | None:
    """Return the error that an answer stands for, None for a good one."""
    shown = body[:200].decode("utf-8", "replace")
    retry_after = headers.get("Retry-After", "")
    after_ms = int(retry_after) * 1000 if retry_after.isdecimal() else None
    if status == HTTPStatus.OK:
        # A truncated body is found here where its length is announced, and by its shape otherwise.
        announced = headers.get("Content-Length", "")
        if (
            announced.isdecimal()
            and "Content-Encoding" not in headers
            and int(announced) != len(body)
        ):
            return BadAnswer(f"{what}: {len(body)} bytes of {announced} came; nothing was kept")
        return (
            None
            if body[:1] in (b"[", b"{")
            else BadAnswer(f"{what}: no JSON but {shown!r}; nothing was kept")
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TooManyRequests(f"{what}: 429 {shown}", after_ms=after_ms)
    if until := _BANNED_UNTIL.search(body):
        return Banned(f"{what}: {status} {shown}", until_ms=int(until[1]), after_ms=after_ms)
    if status == HTTPStatus.IM_A_TEAPOT:
        return Banned(f"{what}: 418 {shown}", after_ms=after_ms)
    if status == HTTPStatus.FORBIDDEN:
        return Firewalled(f"{what}: 403, the firewall's page {shown!r}")
    if status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS:
        return Restricted(f"{what}: 451, the exchange does not serve this address")
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFault(f"{what}: {status} {shown}")
    return Refused(f"{what}: {status} {shown}", code=_error_code(body))


def _error_code(body: bytes) -> int:
    try:
        return int(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return 0


def parse_json(body: bytes, shape: type) -> Any:
    try:
        told = json.loads(body)
    except ValueError as error:
        raise BadAnswer(f"not JSON: {body[:200]!r}; nothing was kept") from error
    if not isinstance(told, shape):
        raise BadAnswer(f"a {shape.__name__} was asked for, {body[:200]!r} came; nothing was kept")
    return told


def date_ms(headers: Mapping[str, str]) -> int | None:
    try:
        return int(parsedate_to_datetime(headers["Date"]).timestamp()) * 1000
    except (KeyError, ValueError):
        return None

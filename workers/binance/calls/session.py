"""One HTTP call to the exchange or its archive: its session, its bounds, its answer as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from klinefleet.workers.binance.calls.clock import TIMED_POOLS, AnswerTooSlow, CallClock, timed_by
from klinefleet.workers.support.settings import trusted_certificates

#: What a call may raise before its answer is complete.
CALL_FAULTS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
#: Bodies are unpacked in pieces of this size, so that their size is known before they fill memory.
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    first_byte_ms: int
    """Time until its head had come."""
    is_too_large: bool = False
    """Whether there was more than was asked for; then `body` is its beginning."""


def call(
    session: requests.Session,
    url: str,
    clock: CallClock,
    *,
    max_bytes: int,
    params: Mapping[str, str | int] | None = None,
    method: str = "GET",
    piece_bytes: int = _PIECE_BYTES,
) -> Answer:
    """Return a host's answer, unpacked, up to `max_bytes` of it; one of CALL_FAULTS without one."""
    try:
        with (
            timed_by(clock),
            session.request(
                method,
                url,
                params=params,
                timeout=clock.limit_s,
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            first_byte_ms = int(clock.took_s * 1000)
            pieces, size = list[bytes](), 0
            while piece := response.raw.read1(piece_bytes, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                # What was received at once may take long to unpack.
                clock.left_s()
                if size > max_bytes:
                    break
    except CALL_FAULTS as error:
        if clock.is_over and not isinstance(error, AnswerTooSlow):
            raise clock.over() from error
        raise
    body = b"".join(pieces)
    return Answer(response.status_code, response.headers, body, first_byte_ms, size > max_bytes)


def pooled_session(connections: int, source_address: str | None = None) -> requests.Session:
    """Return a session that keeps `connections` connections to each host, for as many threads.

    It sends from `source_address`, through the proxies that the environment names for a host
    (HTTPS_PROXY, ALL_PROXY, but for NO_PROXY), and trusts the certificates that it names.
    SettingsError where these cannot be read.
    """
    session = _Session()
    session.trust_env = False  # it would be read at every call
    session.verify = trusted_certificates() or True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(source_address, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Session(requests.Session):
    """Follows no redirect, and so does not read the body of one, which nothing bounds."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class _Adapter(HTTPAdapter):
    """Sends from one of this machine's addresses, within the time of the call's clock."""

    def __init__(self, source_address: str | None, **kwargs: Any) -> None:
        self._source_address = source_address
        self._proxies: dict[str, dict[str, str]] = {}
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **self._bound(kwargs))
        self.poolmanager.pool_classes_by_scheme = TIMED_POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **self._bound(kwargs))
        manager.pool_classes_by_scheme = TIMED_POOLS
        return manager

    def _bound(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._source_address:
            kwargs["source_address"] = (self._source_address, 0)
        return kwargs

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        where = urlsplit(request.url)
        host = f"{where.scheme}://{where.netloc}"
        if host not in self._proxies:
            # Read from the environment once a host, not at every call.
            self._proxies[host] = dict(get_environ_proxies(host))
        return super().send(request, *args, **kwargs | {"proxies": self._proxies[host]})

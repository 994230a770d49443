"""The HTTP session to the exchange, and the error that each answer stands for."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies


def pooled_session(connections: int, source_address: str | None = None) -> requests.Session:
    """Return a session that keeps up to `connections` connections alive per host, for as many threads."""
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

"""The broker's transport: the library's own for Redis, with a closed connection told as such."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as library
from redis import ConnectionError


class Channel(library.Channel):
    """A channel that raises a connection's error, not AttributeError, where it is used after its connection.

    A worker that loses Redis while it holds messages closes their channel twice; the error of the second time is passed
    over only if it is a connection's, and else it ends the worker (kombu 5.7, celery 5.7).
    """

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection.client is None:
            raise ConnectionError("the connection to the broker is closed")
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        return params


class Transport(library.Transport):
    """Redis, by channels that say when their connection is closed."""

    Channel = Channel

"""kombu's Redis transport (5.7) with two changes.

Messages with the header FIRST go to the head of their queue, and messages that are handed back get
a new SENT_US; kombu supports neither. A channel used after its connection was closed raises
ConnectionError instead of AttributeError, which would end the worker (celery/kombu issue 582).
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as library
from kombu.utils.json import dumps
from redis import ConnectionError

from klinefleet.workers.domain.queues import FIRST, SENT_US


class Channel(library.Channel):
    """A channel that queues lost work first, and survives a second closing.

    A worker that loses Redis while it holds messages closes their channel twice. Celery 5.7 ignores
    the second error only if it is a connection error.
    """

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        if not message.get("headers", {}).get(FIRST):
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
            return
        # The head of the queue is the right end of the list.
        with self.conn_or_acquire() as client:
            client.rpush(queue, dumps(message))  # type: ignore[no-untyped-call]

    def _do_restore_message(
        self,
        payload: dict[str, Any],
        exchange: str,
        routing_key: str,
        pipe: Any,
        leftmost: bool = False,
    ) -> None:
        if leftmost and SENT_US in payload.get("headers", {}):
            with self.conn_or_acquire() as client:
                seconds, micros = client.time()
            payload["headers"][SENT_US] = seconds * 1_000_000 + micros
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)  # type: ignore[no-untyped-call]

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection.client is None:
            raise ConnectionError("the connection to the broker is closed")
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        return params


class Transport(library.Transport):
    """kombu's Redis transport with our channel."""

    Channel = Channel

"""kombu's Redis transport (5.7), with lost work at the head of its queue and an error that a worker
survives.

kombu has no way to send a message to the head of a queue, and none to change one that is handed
back. A channel that is used after its connection raises AttributeError (celery/kombu issue 582 and
its kind), which ends the worker.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as library
from kombu.utils.json import dumps
from redis import ConnectionError

from klinefleet.workers.domain.queues import FIRST, SENT_US


class Channel(library.Channel):
    """A channel on which lost work goes before all that waits, and work that is handed back counts
    as sent anew.

    It raises a connection's error, not AttributeError, where it is used after its connection: a
    worker that loses Redis while it holds messages closes their channel twice, and the error of the
    second time is passed over only if it is a connection's, and else ends the worker (kombu 5.7,
    celery 5.7).
    """

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        if not message.get("headers", {}).get(FIRST):
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
            return
        # Messages are taken from a list's right end.
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
    """Redis, by such channels."""

    Channel = Channel

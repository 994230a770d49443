"""kombu's Redis transport (5.7) with four changes.

Messages with the header FIRST go to the head of their queue, and messages that are handed back get
a new SENT_US; kombu supports neither. A channel used after its connection was closed raises
ConnectionError instead of AttributeError, which would end the worker (celery/kombu issue 582).
A message that cannot be read is set aside: in kombu it ends the worker that takes it. One that
Redis does not take back frees its slot.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any

from kombu.transport import redis as library
from kombu.transport import virtual
from kombu.transport.virtual import Base64
from kombu.utils.json import dumps, loads
from redis import ConnectionError, Redis, RedisError, ResponseError

from klinefleet.workers.domain.queues import FIRST, SENT_US
from klinefleet.workers.domain.redis_keys import KEEP_MS, UNREADABLE

logger = logging.getLogger(__name__)

#: Unreadable messages that are kept, and the bytes that are kept of one.
KEPT, _KEPT_BYTES = 100, 1 << 16


class UnreadableMessage(ValueError):
    """The bytes are no message of a task."""


def readable(item: bytes) -> dict[str, Any]:
    """Return a queue's item as a message; UnreadableMessage where no worker could read it."""
    try:
        message: dict[str, Any] = loads(item.decode())  # type: ignore[no-untyped-call]
        properties, headers = message["properties"], message["headers"]
        where = properties["delivery_info"]
        texts = (
            properties["delivery_tag"],
            where["exchange"],
            where["routing_key"],
            headers["task"],
            headers["id"],
        )
        body = message["body"]
        if properties.get("body_encoding") == "base64":
            body = Base64().decode(body)  # type: ignore[no-untyped-call]
        arguments, named, _ = json.loads(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.debug("an unreadable message: %r", error)
        raise UnreadableMessage("it is no message of a task") from error
    if not all(isinstance(text, str) for text in texts):
        raise UnreadableMessage("a name in it is no text")
    if not isinstance(arguments, list) or not isinstance(named, dict):
        raise UnreadableMessage("its arguments are none")
    if message.get("content-type") != "application/json":
        raise UnreadableMessage("its content is not JSON")
    return message


def set_aside(client: Redis, queue: str, item: bytes, reason: UnreadableMessage) -> None:
    """Keep an unreadable message for those who look into it, and log that."""
    with client.pipeline() as pipe:
        pipe.lpush(UNREADABLE, item[:_KEPT_BYTES])
        pipe.ltrim(UNREADABLE, 0, KEPT - 1)
        pipe.pexpire(UNREADABLE, KEEP_MS)
        pipe.execute()
    logger.error(
        "a message in %s cannot be read (%s): set aside in %s; work of a run is sent again",
        queue,
        reason,
        UNREADABLE,
    )


class QoS(library.QoS):
    """kombu's messages under way; one that Redis does not take back frees its slot all the same.

    In kombu the lane then takes a message less for ever, and reports each with a traceback. Its
    work is found by its lease, or done already.
    """

    def ack(self, delivery_tag: str) -> None:
        with self._forgetting(delivery_tag):
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with self._forgetting(delivery_tag):
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        with suppress(ResponseError):  # the next round restores them
            super().restore_visible(start, num, interval)  # type: ignore[no-untyped-call]

    @contextmanager
    def _forgetting(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            logger.debug("a message could not be taken back; its work is sent again: %r", error)
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]


class Channel(library.Channel):
    """A channel that queues lost work first, and survives unreadable messages and a second closing.

    A worker that loses Redis while it holds messages closes their channel twice. Celery 5.7 ignores
    the second error only if it is a connection error.
    """

    QoS = QoS

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        if not message.get("headers", {}).get(FIRST):
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
            return
        # The head of the queue is the right end of the list.
        with self.conn_or_acquire() as client:
            client.rpush(queue, dumps(message))  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: Any) -> bool:
        """Hand the message that has come to its consumer, as kombu does, if it can be read."""
        try:
            try:
                found = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()  # the next round connects again
                raise
            if not found:
                raise Empty
            self._deliver(*found)
            return True
        finally:
            self._in_poll = None  # type: ignore[assignment]
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]

    def _deliver(self, key: bytes, item: bytes) -> None:
        queue = key.decode().rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        try:
            message = readable(item)
        except UnreadableMessage as reason:
            with self.conn_or_acquire() as client:
                set_aside(client, queue, item, reason)
            return
        self.connection._deliver(message, queue)

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

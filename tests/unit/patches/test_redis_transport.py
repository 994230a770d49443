"""The broker's transport: what the library does not say of a closed connection."""

from __future__ import annotations

import base64
import json

import pytest
from kombu import Connection
from redis import ConnectionError, Redis

from klinefleet.workers.app import app, broker_url
from klinefleet.workers.domain.redis_keys import KEEP_MS, UNREADABLE
from klinefleet.workers.patches.redis_transport import (
    KEPT,
    Transport,
    UnreadableMessage,
    readable,
    set_aside,
)


def address(redis: Redis) -> str:
    return broker_url(f"unix://{redis.connection_pool.connection_kwargs['path']}")


@pytest.mark.parametrize(
    "url", ["redis://localhost", "rediss://localhost", "unix:///run/redis.sock"]
)
def test_every_address_of_a_redis_is_reached_by_our_transport(url: str) -> None:
    assert isinstance(app.connection_for_read(broker_url(url)).transport, Transport)


def test_a_channel_used_after_its_connection_raises_what_a_worker_survives() -> None:
    connection = Connection("redis://localhost")
    channel = Transport.Channel.__new__(Transport.Channel)
    channel.connection = connection.transport
    connection.release()
    with pytest.raises(ConnectionError, match="is closed"):
        channel._connparams()
    assert issubclass(ConnectionError, connection.connection_errors)


def packed(body: object = ([], {}, {})) -> bytes:
    """Return a message as kombu writes it."""
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "headers": {"task": "klines.plan", "id": "1"},
        "properties": {
            "delivery_tag": "1",
            "delivery_info": {"exchange": "", "routing_key": "plan"},
            "body_encoding": "base64",
        },
    }
    return json.dumps(message).encode()


def changed(part: str, value: object) -> bytes:
    """Return a message with one part changed."""
    return json.dumps(json.loads(packed()) | {part: value}).encode()


UNREADABLE_ITEMS = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "no JSON": b"garbage",
    "a number": b"5",
    "a list": b"[]",
    "an empty object": b"{}",
    "JSON without an end": b"[" * 200_000,
    "no body": changed("body", None),
    "no base64": changed("body", "%%%"),
    "a body that is no JSON": changed("body", base64.b64encode(b"no").decode()),
    "a body that is a number": packed(5),
    "arguments that are none": packed([5, {}, {}]),
    "named arguments that are none": packed([[], [], {}]),
    "no headers": changed("headers", {}),
    "a task that is no text": changed("headers", {"task": 5, "id": "1"}),
    "no properties": changed("properties", None),
    "another content": changed("content-type", "application/x-python-serialize"),
}


@pytest.mark.parametrize("item", UNREADABLE_ITEMS.values(), ids=UNREADABLE_ITEMS)
def test_what_no_worker_can_read_is_told_from_messages(item: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        readable(item)
    assert readable(packed())["headers"]["task"] == "klines.plan"


def test_unreadable_messages_are_kept_in_bounds_and_told_in_a_line(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(KEPT + 5):
        set_aside(redis, "plan", b"%d" % number + b"x" * 100_000, UnreadableMessage("no JSON"))
    assert redis.llen(UNREADABLE) == KEPT
    assert 0 < redis.pttl(UNREADABLE) <= KEEP_MS
    kept = redis.lindex(UNREADABLE, 0)
    assert kept.startswith(b"104x")
    assert len(kept) < 100_000
    assert caplog.records[0].getMessage().startswith("a message in plan cannot be read (no JSON)")


def test_a_message_that_cannot_be_read_ends_no_consumer(redis: Redis) -> None:
    """kombu reads the next message as if there had been none before."""
    with Connection(address(redis), transport=Transport) as connection:
        channel = connection.channel()
        taken = list[str]()
        channel.basic_consume(
            "plan", True, lambda message: taken.append(message.headers["id"]), "c"
        )
        for item in (b"garbage", packed(), b"[]"):
            redis.lpush("plan", item)
        for _ in range(3):
            connection.drain_events(timeout=10)
    assert taken == ["1"]
    assert redis.llen(UNREADABLE) == 2

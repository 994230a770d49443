"""The broker's transport: what the library does not say of a closed connection."""

from __future__ import annotations

import pytest
from kombu import Connection
from redis import ConnectionError

from klinefleet.workers.app import app, broker_url
from klinefleet.workers.patches.redis_transport import Transport


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

"""Each patch against its library: a test fails when the patch is no longer needed."""

from __future__ import annotations

import inspect

import aiohttp.connector
import aiohttp.tcp_helpers
import botocore.utils
import pytest
from flower.views.monitor import Healthcheck, Metrics
from flower.views.tasks import TasksView
from kombu import Connection
from kombu.transport import redis as kombu_redis
from prometheus_client import values

from klinefleet.workers.domain.queues import FIRST


def test_kombu_still_sends_no_message_to_the_head_of_a_queue() -> None:
    """`redis_transport`: no header of a message decides at which end of the list it is put."""
    assert "headers" not in inspect.getsource(kombu_redis.Channel._put)
    assert FIRST not in inspect.getsource(kombu_redis)


def test_kombu_still_raises_what_ends_a_worker_that_uses_a_closed_channel() -> None:
    """`redis_transport`: AttributeError is no connection's error, so nobody passes over it."""
    connection = Connection("redis://localhost")
    channel = kombu_redis.Channel.__new__(kombu_redis.Channel)
    channel.connection = connection.transport
    connection.release()
    with pytest.raises(AttributeError):
        channel._connparams()


def test_botocore_still_parses_times_with_dateutil() -> None:
    """`s3_timestamps`."""
    assert "dateutil" in inspect.getsource(botocore.utils._parse_timestamp_with_tzinfo)


def test_aiohttp_still_acknowledges_as_the_kernel_likes() -> None:
    """`tcp_quickack`."""
    assert "QUICKACK" not in inspect.getsource(aiohttp.tcp_helpers) + inspect.getsource(
        aiohttp.connector
    )


def test_flower_still_serves_two_pages_without_its_password() -> None:
    """`flower_access`: tornado's `authenticated` wraps what asks for it.

    Another module here may have patched them.
    """
    assert hasattr(TasksView.get, "__wrapped__")
    assert "authenticated" not in inspect.getsource(inspect.unwrap(Metrics.get))
    assert "authenticated" not in inspect.getsource(inspect.unwrap(Healthcheck.get))


def test_prometheus_client_still_names_files_by_process() -> None:
    """`prometheus_lane`: what decides is chosen at import, without a word from the caller."""
    assert not inspect.signature(values.get_value_class).parameters
    assert "getpid" in inspect.getsource(values.MultiProcessValue)

"""Lost work is told from waiting work, in queues that are never empty, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from kombu import Connection
from redis import Redis

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.lost_work import (
    CHECK_INTERVAL_S,
    REQUEUE_GRACE_US,
    LostWorkDetector,
    SentWork,
    find_missing,
    next_sent_us,
)
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.app import app, broker_url
from klinefleet.workers.coordination.leases import Leases
from klinefleet.workers.coordination.redis_clock import now_us
from klinefleet.workers.domain.series import Window
from klinefleet.workers.patches.redis_transport import Transport
from tests.unit.helpers.klines import JANUARY, minutes

QUEUE = "rest.futures"


@pytest.fixture
def broker(redis: Redis) -> Iterator[Redis]:
    """The app's messages go to this Redis."""
    with Connection(address(redis), transport=Transport) as connection:
        producer = app.amqp.Producer(connection)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                app, "producer_or_acquire", lambda given=None: nullcontext(given or producer)
            )
            yield redis


def address(redis: Redis) -> str:
    return broker_url(f"unix://{redis.connection_pool.connection_kwargs['path']}")


def windows(number: int) -> list[Window]:
    return [Window(JANUARY, minutes(n, n + 1)) for n in range(number)]


def waiting(redis: Redis) -> list[tuple[str, int]]:
    """Return the waiting messages in their order: each window's start and when it was sent."""
    told = [json.loads(message)["headers"] for message in reversed(redis.lrange(QUEUE, 0, -1))]
    return [(headers["argsrepr"].split(" 1m ")[1][:16], headers["sent_us"]) for headers in told]


def test_messages_of_one_batch_count_as_sent_one_after_the_other(broker: Redis) -> None:
    enqueue.send_fetch("run", windows(3), 1000)
    assert [us for _, us in waiting(broker)] == [1000, 1001, 1002]
    assert next_sent_us(broker, QUEUE) == 1000


def test_lost_work_goes_before_all_that_waits_and_hides_nothing_behind_it(broker: Redis) -> None:
    enqueue.send_fetch("run", windows(3)[1:], 2000)
    enqueue.send_fetch("run", windows(1), 1000, first=True)
    assert [us for _, us in waiting(broker)] == [1000, 2000, 2001]
    assert next_sent_us(broker, QUEUE) == 1000


def test_what_is_handed_back_goes_to_the_end_and_counts_as_sent_then(broker: Redis) -> None:
    enqueue.send_fetch("run", windows(2), 1000)
    before_us = now_us(broker)
    with Connection(address(broker), transport=Transport) as connection:
        queue = connection.SimpleQueue(QUEUE)
        message = queue.get(block=False)
        message.reject(requeue=True)
        queue.close()
    (_, first_us), (_, last_us) = waiting(broker)
    assert first_us == 1001
    assert before_us <= last_us <= now_us(broker)


def test_an_empty_queue_explains_nothing_and_a_message_of_another_version_everything(
    redis: Redis,
) -> None:
    long_ago = SentWork("lease", QUEUE, 1)
    assert find_missing(redis, [long_ago]) == {long_ago}
    for message in (b'{"headers": {}}', b"no JSON", b"[]"):
        redis.delete(QUEUE)
        redis.lpush(QUEUE, message)
        assert find_missing(redis, [long_ago]) == set()


def test_of_a_batch_that_waits_still_only_what_was_taken_and_is_not_leased_is_missed(
    broker: Redis,
) -> None:
    """Five were sent in the same step; three were taken, of which two are worked on."""
    enqueue.send_fetch("run", windows(5), 1000)
    for _ in range(3):
        broker.rpop(QUEUE)
    sent = [SentWork(f"w{n}", QUEUE, 1000 + n) for n in range(5)]
    with Leases(broker).hold("w0"), Leases(broker).hold("w2"):
        assert find_missing(broker, sent) == {sent[1]}


def test_what_is_missed_once_is_not_lost_yet(redis: Redis) -> None:
    now_s = 0.0
    lost, one = LostWorkDetector(redis, clock=lambda: now_s), SentWork("lease", QUEUE, 1)
    assert not lost.is_due
    now_s += CHECK_INTERVAL_S
    assert lost.is_due
    assert lost.find_lost([one]) == set()
    assert not lost.is_due
    assert lost.find_lost([one]) == {one}
    # It was sent again, and has to be missed twice again.
    assert lost.find_lost([one]) == set()


def test_what_was_found_in_between_is_missed_anew(redis: Redis) -> None:
    lost, one = LostWorkDetector(redis), SentWork("lease", QUEUE, 1)
    lost.find_lost([one])
    with Leases(redis).hold("lease"):
        lost.find_lost([one])
    assert lost.find_lost([one]) == set()


def test_what_was_handed_back_and_waits_first_is_not_missed(broker: Redis) -> None:
    """It is noted as sent anew a moment before the broker puts it back."""
    window = windows(1)[0]
    series = window.partition.series
    runs = Runs(broker)
    run = runs.create(
        Request(series.market, series.kind, series.interval, (series.symbol,), 0, 60_000)
    )
    assert runs.partitions.claim(run, JANUARY)
    enqueue.send_fetch(run, [window], runs.partitions.open(run, JANUARY, [window]))
    runs.partitions.mark_sent(run, [window], delay_us=REQUEUE_GRACE_US)
    with Connection(address(broker), transport=Transport) as connection:
        queue = connection.SimpleQueue(QUEUE)
        queue.get(block=False).reject(requeue=True)
        queue.close()
    ((_, at_us),) = waiting(broker)
    noted_us = runs.partitions.reconcile(run).windows[window]
    assert at_us <= noted_us
    assert find_missing(broker, [SentWork("lease", QUEUE, noted_us)]) == set()

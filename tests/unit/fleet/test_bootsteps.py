"""The gate of a lane: when it takes no tasks, and what its log says of that."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from redis import Redis

from klinefleet.tasks.fleet.bootsteps import ConsumerGate
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.domain.redis_keys import STORE
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings

OURS, THEIRS = StoreRef("a1", "s3://ours/lake"), StoreRef("b2", "/data")


class FakeConsumer:
    """A Celery consumer that takes tasks of some queues."""

    def __init__(self, *queues: str) -> None:
        self.queues = set(queues)
        self.task_consumer = SimpleNamespace(consuming_from=self.queues.__contains__)
        self.cancel_task_queue = self.queues.discard
        self.add_task_queue = self.queues.add


class Lane:
    def __init__(self, redis_url: str, queue: str, store: StoreRef = OURS) -> None:
        self.services = Services(Settings(redis_url=redis_url), queue=queue, own_store=store)
        self.consumer = FakeConsumer(queue)
        self._worker = SimpleNamespace(
            consumer=self.consumer, app=SimpleNamespace(services=self.services)
        )
        self._gate = ConsumerGate(self._worker)

    def takes_tasks(self) -> bool:
        for _ in range(3):
            self._gate._update(self._worker)
        return bool(self.consumer.queues)


@pytest.mark.parametrize("queue", ["plan", "rest.spot", "archive", "compact"])
def test_a_lane_takes_no_tasks_while_the_fleet_serves_another_store_and_says_so_once(
    redis: Redis, redis_url: str, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    lane = Lane(redis_url, queue)
    lane.services.heartbeat.beat()
    assert lane.takes_tasks()
    redis.flushall()
    FleetStore(redis, THEIRS).keep()
    lane.services.heartbeat.beat()
    assert not lane.takes_tasks()
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert all(named in told.getMessage() for named in (str(OURS), str(THEIRS), queue))
    redis.delete(STORE)
    lane.services.heartbeat.beat()
    assert lane.takes_tasks()


def test_a_lane_whose_store_is_not_known_yet_leaves_tasks_to_the_fleet_that_knows_its_own(
    redis: Redis, redis_url: str
) -> None:
    lane = Lane(redis_url, "plan", StoreRef("", OURS.url))
    lane.services.heartbeat.beat()
    assert lane.takes_tasks()
    FleetStore(redis, OURS).keep()
    lane.services.heartbeat.beat()
    assert not lane.takes_tasks()
    lane.services.fleet_store.learn(OURS.id)
    lane.services.heartbeat.beat()
    assert lane.takes_tasks()


def test_a_pool_that_is_closed_still_closes_the_gate(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    lane = Lane(redis_url, "rest.spot")
    lane.services.is_pool_closed = True
    assert not lane.takes_tasks()
    assert [record.getMessage() for record in caplog.records] == [
        "the exchange has closed rest.spot to default: taking no tasks"
    ]
    FleetStore(redis, THEIRS).keep()
    lane.services.heartbeat.beat()
    lane.services.is_pool_closed = False
    assert not lane.takes_tasks(), "one reason has gone, the other has not"

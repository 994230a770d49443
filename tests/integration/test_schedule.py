"""What the clock sends, through a real Redis, and the process that does it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from redis import Redis

import klinefleet.tasks.catalog  # noqa: F401 - so that its tasks are known
from klinefleet.tasks.fleet.scheduler import CATALOG_TIMES, HeartbeatScheduler, schedule
from klinefleet.workers.app import app, connect
from klinefleet.workers.coordination.liveness import WorkerHealth, health_folder
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.queues import PLAN
from klinefleet.workers.support.settings import Settings
from tests.harness import KLINES, Fleet
from tests.processes import WITHIN_S, Process, until


def test_a_day_later_each_market_s_catalog_is_sent_once(redis: Redis, redis_url: str) -> None:
    connect(Settings(redis_url=redis_url))
    app.conf.update(timezone="UTC", beat_schedule=schedule())
    clock = HeartbeatScheduler(app, health=WorkerHealth())
    while clock.tick() == 0:
        pass
    assert redis.llen(PLAN) == 0, "nothing is due when it starts"
    _let_a_day_pass(clock)
    while clock.tick() == 0:
        pass
    sent = [json.loads(message) for message in redis.lrange(PLAN, 0, -1)]
    assert {message["headers"]["task"] for message in sent} == {"klines.catalog"}
    assert sorted(message["headers"]["argsrepr"] for message in sent) == [
        f"catalog of {m}" for m in sorted(Market)
    ]
    clock.close()


def test_every_market_has_its_own_minute_and_a_task_that_exists() -> None:
    assert set(CATALOG_TIMES) == set(Market)
    assert len(set(CATALOG_TIMES.values())) == len(Market)
    assert {entry["task"] for entry in schedule().values()} <= set(app.tasks)


def test_the_clock_s_process_says_that_it_lives_and_leaves_when_told(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of()
    with Process() as beat:
        log = fleet.folder / "beat.log"
        beat.spawn([str(KLINES), "beat"], fleet.env | {"KLINES_LOG": "text"}, log)
        assert beat.process
        until("it touches its health file", lambda: list(health_folder().glob("*/beat")))
        beat.process.send_signal(signal.SIGTERM)
        assert beat.process.wait(WITHIN_S) == 0
    assert not list(health_folder().glob("*"))
    assert " info    scheduled: catalog of spot, " in log.read_text(), (
        "the form that was asked for, and no other"
    )


def _let_a_day_pass(clock: HeartbeatScheduler) -> None:
    for entry in clock.schedule.values():
        entry.last_run_at = datetime.now(UTC) - timedelta(days=1, minutes=1)
    clock.populate_heap()

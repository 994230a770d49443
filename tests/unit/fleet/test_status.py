"""The output of `klines workers`: queues served, weight left, and problems."""

from __future__ import annotations

from functools import partial

import pytest
from redis import Redis

from klinefleet.tasks.fleet.status import count_workers, status_lines
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.coordination.heartbeat import Heartbeat
from klinefleet.workers.coordination.leases import Leases
from klinefleet.workers.domain.markets import Pool
from klinefleet.workers.domain.redis_keys import SHARED_EGRESS
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings

NOW_MS = 1_700_000_000_000


@pytest.fixture
def services(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Services:
    # One moment for all budgets: what is spent is told of the running minute.
    monkeypatch.setattr(
        "klinefleet.workers.services.RedisBudget", partial(RedisBudget, now_ms=NOW_MS)
    )
    for serves in ("plan", "rest.spot@home", "rest.spot@office"):
        Heartbeat(redis, Leases(redis), serves=serves).beat()
    return Services(Settings(redis_url=redis_url))


def printed_lines(services: Services) -> list[str]:
    return list(status_lines(services, count_workers(services)))


def test_a_queue_without_a_worker_is_seen_at_once(services: Services) -> None:
    assert count_workers(services)["rest.futures"] == 0
    assert "rest.futures   0" in printed_lines(services)


def test_each_address_shows_what_it_spent_and_whether_it_is_closed(services: Services) -> None:
    home, office = (
        RedisBudget(services.redis, Pool.SPOT, name, now_ms=NOW_MS) for name in ("home", "office")
    )
    home.set_limit(6000)
    home.take(20)
    office.close_until(after_ms=120_000)
    shown = printed_lines(services)
    assert shown[1] == "rest.spot      2"
    assert shown[2].split() == ["home", "weight", "20", "of", "6,000", "in", "this", "minute"]
    assert shown[3].split()[:5] == ["office", "closed", "by", "the", "exchange"]


def test_the_store_that_the_lanes_serve_is_the_last_line_once_they_have_named_it(
    services: Services,
) -> None:
    assert not any("store" in line for line in printed_lines(services))
    FleetStore(services.redis, StoreRef("a1", "s3://lake/klines")).keep()
    assert printed_lines(services)[-1] == "store          s3://lake/klines (id a1)"


def test_two_names_of_one_address_are_told_to_the_operator(services: Services) -> None:
    services.redis.hset(SHARED_EGRESS, "spot home office", f"{NOW_MS // MINUTE_MS} 2")
    assert (
        "  home and office seem to be one address: set the same KLINES_EGRESS for their workers"
        in printed_lines(services)
    )

"""One Redis serves one store: the first lane names it, others learn it, and it lapses with them."""

from __future__ import annotations

import pytest
from redis import Redis

from klinefleet.workers.coordination.fleet_store import FleetStore, served_store
from klinefleet.workers.coordination.heartbeat import Heartbeat
from klinefleet.workers.coordination.leases import LEASE_TTL_MS, Leases
from klinefleet.workers.domain.errors import OtherStore
from klinefleet.workers.domain.redis_keys import STORE
from klinefleet.workers.domain.stores import StoreRef

OURS, THEIRS = StoreRef("a1", "s3://ours/lake"), StoreRef("b2", "/data")


def heartbeat(redis: Redis, store: FleetStore, serves: str = "plan") -> Heartbeat:
    return Heartbeat(redis, Leases(redis), serves=serves, fleet_store=store)


def test_the_first_store_is_kept_and_another_is_told_of_it_and_changes_nothing(
    redis: Redis,
) -> None:
    ours, theirs = FleetStore(redis, OURS), FleetStore(redis, THEIRS)
    assert ours.keep() is None
    assert theirs.keep() == OURS
    assert served_store(redis) == OURS
    ours.check()
    with pytest.raises(OtherStore) as refused:
        theirs.check()
    assert str(OURS) in str(refused.value)
    assert str(THEIRS) in str(refused.value)


def test_a_worker_that_finds_the_same_store_by_another_url_is_one_of_the_fleet(
    redis: Redis,
) -> None:
    FleetStore(redis, OURS).keep()
    assert FleetStore(redis, StoreRef(OURS.id, "s3://alias/lake")).keep() is None
    assert served_store(redis) == OURS, "the URL must not change with each heartbeat"


def test_the_store_lapses_with_the_leases_of_workers_that_were_killed(redis: Redis) -> None:
    FleetStore(redis, OURS).keep()
    redis.pexpire(STORE, 1_000)
    heartbeat(redis, FleetStore(redis, OURS)).beat()
    assert 1_000 < redis.pttl(STORE) <= LEASE_TTL_MS
    redis.pexpire(STORE, 1_000)
    FleetStore(redis, THEIRS).keep()
    assert redis.pttl(STORE) <= 1_000, "another store's worker renews nothing"


def test_a_heartbeat_names_the_store_again_after_redis_has_lost_it(redis: Redis) -> None:
    beating = heartbeat(redis, FleetStore(redis, OURS))
    beating.beat()
    redis.flushall()
    beating.beat()
    assert served_store(redis) == OURS


def test_a_lane_that_finds_another_store_later_stops_until_they_agree_again(redis: Redis) -> None:
    ours = FleetStore(redis, OURS)
    beating = heartbeat(redis, ours)
    beating.beat()
    redis.flushall()
    FleetStore(redis, THEIRS).keep()
    beating.beat()
    assert ours.other == THEIRS
    redis.delete(STORE)
    beating.beat()
    ours.check()
    assert served_store(redis) == OURS


def test_the_last_lane_that_stops_gives_the_redis_free_and_no_earlier_one(redis: Redis) -> None:
    plan, compact = (
        heartbeat(redis, FleetStore(redis, OURS), serves) for serves in ("plan", "compact")
    )
    plan.beat()
    compact.beat()
    plan.stop()
    assert served_store(redis) == OURS
    compact.stop()
    assert served_store(redis) is None
    assert FleetStore(redis, THEIRS).keep() is None


def test_a_lane_of_another_store_that_stops_deletes_nothing(redis: Redis) -> None:
    FleetStore(redis, OURS).keep()
    heartbeat(redis, FleetStore(redis, THEIRS)).stop()
    assert served_store(redis) == OURS


def test_a_store_without_a_known_id_is_not_named_and_never_taken_for_the_fleets(
    redis: Redis,
) -> None:
    unknown = FleetStore(redis, StoreRef("", OURS.url))
    assert unknown.keep() is None
    unknown.release()
    assert served_store(redis) is None
    FleetStore(redis, OURS).keep()
    assert unknown.keep() == OURS
    unknown.learn(OURS.id)
    assert unknown.keep() is None
    unknown.check()


def test_a_store_that_a_later_version_tells_more_of_is_still_read(redis: Redis) -> None:
    redis.set(STORE, '{"id": "a1", "url": "s3://ours/lake", "region": "x"}')
    assert served_store(redis) == OURS
    assert FleetStore(redis, OURS).keep() is None

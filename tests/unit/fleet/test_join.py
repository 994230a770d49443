"""Which store a worker joins a fleet with: settled before its lanes start, or refused."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.fleet import join
from klinefleet.tasks.fleet.join import join_fleet, learn_store_id, settle
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.fleet_store import FleetStore, served_store
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.lake import keys
from klinefleet.workers.services import Services
from klinefleet.workers.support.settings import Settings
from tests.unit.helpers.klines import MINUTES

THEIRS = StoreRef("b2", "s3://theirs/lake")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def settings(redis_url: str, store: Path) -> Settings:
    return Settings(redis_url=redis_url, store_url=str(store))


def write_identity(store: Path, lake_format: int, store_id: str = "a1") -> None:
    store.mkdir(exist_ok=True)
    (store / keys.IDENTITY).write_text(json.dumps({"id": store_id, "format": lake_format}))


def hold_a_partition_of_format_1(store: Path) -> None:
    """Write a month of a series whose partitions are years from format 2 on."""
    path = store / keys.partition(Partition(replace(MINUTES, interval=Interval.H1), "2024-01"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")


def request() -> Request:
    return Request(MINUTES.market, MINUTES.kind, MINUTES.interval, ("BTCUSDT",), 0, 60_000)


def test_a_new_store_has_its_identity_and_is_named_in_redis_before_a_lane_starts(
    redis: Redis, settings: Settings, store: Path
) -> None:
    joined = join_fleet(settings)
    assert joined == StoreRef(json.loads((store / keys.IDENTITY).read_text())["id"], str(store))
    assert joined.id
    assert served_store(redis) == joined
    assert join_fleet(settings) == joined, "a second worker joins"


def test_a_relative_folder_is_named_by_its_absolute_path(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    relative = Settings(redis_url=settings.redis_url, store_url="./store")
    assert join_fleet(relative).url == str(tmp_path / "store")


def test_a_worker_of_another_store_is_refused_with_both_named_and_changes_nothing(
    redis: Redis, settings: Settings, store: Path
) -> None:
    FleetStore(redis, THEIRS).keep()
    with pytest.raises(RequestError) as refused:
        join_fleet(settings)
    own = StoreRef(json.loads((store / keys.IDENTITY).read_text())["id"], str(store))
    for named in (own.id, own.url, THEIRS.id, THEIRS.url, "KLINES_STORE_URL"):
        assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert served_store(redis) == THEIRS


def test_a_store_that_was_replaced_under_its_fleet_is_told_as_that(
    redis: Redis, settings: Settings, store: Path
) -> None:
    FleetStore(redis, StoreRef("b2", str(store))).keep()
    with pytest.raises(RequestError, match="it was replaced: restart the fleet's workers"):
        join_fleet(settings)


def test_a_worker_is_refused_while_a_run_of_another_store_has_not_ended(
    redis: Redis, settings: Settings
) -> None:
    runs = Runs(redis)
    run = runs.create(request(), THEIRS)
    with pytest.raises(RequestError) as refused:
        join_fleet(settings)
    for named in (run, THEIRS.id, THEIRS.url, settings.store_url, f"klines cancel {run}"):
        assert named in str(refused.value)
    assert served_store(redis) is None, "a refused worker must not be in the way of the right one"
    runs.end(run, runs.state(run))  # type: ignore[arg-type]
    assert served_store(redis) is None
    assert join_fleet(settings).id


def test_a_run_of_an_earlier_version_names_no_store_and_is_in_nobodys_way(
    redis: Redis, settings: Settings
) -> None:
    Runs(redis).create(request())
    assert join_fleet(settings).id


def test_a_store_of_a_newer_format_is_refused(
    redis: Redis, settings: Settings, store: Path
) -> None:
    write_identity(store, 99)
    with pytest.raises(RequestError, match=r"format 99.*upgrade"):
        join_fleet(settings)
    assert served_store(redis) is None


def test_an_identity_that_does_not_decode_is_refused_and_named(
    redis: Redis, settings: Settings, store: Path
) -> None:
    store.mkdir()
    (store / keys.IDENTITY).write_text("{")
    with pytest.raises(RequestError, match=keys.IDENTITY):
        join_fleet(settings)


def test_a_lake_of_format_1_is_joined_with_one_warning_and_named_once_it_is_migrated(
    redis: Redis, settings: Settings, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hold_a_partition_of_format_1(store)
    with caplog.at_level(logging.WARNING):
        assert join_fleet(settings) == StoreRef("", str(store))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "klines migrate" in caplog.text
    assert served_store(redis) is None
    write_identity(store, 1)
    assert join_fleet(settings).id == "a1", "a migration that has begun gave it an id"


def test_a_lake_of_format_1_does_not_join_the_fleet_of_a_store_that_has_an_id(
    redis: Redis, settings: Settings, store: Path
) -> None:
    hold_a_partition_of_format_1(store)
    FleetStore(redis, THEIRS).keep()
    with pytest.raises(RequestError, match="no id known"):
        join_fleet(settings)


def test_a_store_that_does_not_answer_keeps_no_worker_from_starting(
    redis: Redis, settings: Settings, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.write_text("a file where the folder should be")
    FleetStore(redis, THEIRS).keep()
    with caplog.at_level(logging.WARNING):
        assert join_fleet(settings) == StoreRef("", str(store))
    assert len(caplog.records) == 1
    assert str(store) in caplog.text


def test_a_store_that_hangs_is_waited_for_only_so_long(
    redis: Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    never = threading.Event()
    monkeypatch.setattr(join, "settle", lambda _: never.wait())
    monkeypatch.setattr(join, "SETTLE_S", 0.2)
    assert join_fleet(settings).id == ""
    assert "no answer within" in caplog.text


def test_the_id_that_was_not_known_at_the_start_is_learned_and_named(
    redis: Redis, settings: Settings, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "LEARN_INTERVAL_S", 0.01)
    store.write_text("a file where the folder should be")
    services = Services(settings, queue="plan", own_store=StoreRef("", str(store)))
    learning = threading.Thread(target=learn_store_id, args=(services, threading.Event()))
    learning.start()
    services.heartbeat.beat()
    assert served_store(redis) is None
    store.unlink()
    write_identity(store, 2)
    learning.join(30)
    assert not learning.is_alive()
    services.heartbeat.beat()
    assert served_store(redis) == StoreRef("a1", str(store))


def test_a_lane_that_ends_stops_asking_for_the_id(settings: Settings) -> None:
    ended = threading.Event()
    ended.set()
    learn_store_id(Services(settings, queue="plan"), ended)
    assert settle(settings).store_id, "nothing was written before"

"""Work of one store never goes to another: what commands refuse, and planners do not lead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Reject
from redis import Redis

from klinefleet.tasks import catalog, compact, fetch, plan, verify
from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.fetcher import FleetFetcher
from klinefleet.tasks.fleet.join import join_fleet
from klinefleet.tasks.planning.plan_run import plan_run
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.store import Runs
from klinefleet.tasks.runs.summary import summarize
from klinefleet.tasks.verification.pieces import VerificationPiece
from klinefleet.workers.coordination.fleet_store import FleetStore
from klinefleet.workers.domain.errors import OtherStore, RequestError, TaskFailed
from klinefleet.workers.domain.redis_keys import STORE
from klinefleet.workers.domain.stores import StoreRef
from klinefleet.workers.lake import keys
from klinefleet.workers.services import Services
from tests.unit.helpers.in_process_fleet import InProcessFleet
from tests.unit.helpers.klines import JANUARY, MINUTES

THEIRS = StoreRef("b2", "s3://theirs/lake")


def request() -> Request:
    span = JANUARY.span
    return Request(
        MINUTES.market, MINUTES.kind, MINUTES.interval, ("BTCUSDT",), span.start_ms, span.end_ms
    )


def test_a_command_of_another_store_is_refused_with_both_named(
    redis: Redis, one: InProcessFleet
) -> None:
    own = one.services.own_store()
    FleetStore(redis, THEIRS).keep()
    with pytest.raises(RequestError) as refused:
        preflight.check_same_store(one.services)
    assert all(named in str(refused.value) for named in (own.id, own.url, THEIRS.id, THEIRS.url))


def test_a_command_of_the_fleets_store_is_let_through(redis: Redis, one: InProcessFleet) -> None:
    assert one.services.own_store() == join_fleet(one.services.settings)
    preflight.check_same_store(one.services)


def test_a_store_without_an_identity_is_not_taken_for_the_fleets_and_gets_none(
    redis: Redis, one: InProcessFleet
) -> None:
    FleetStore(redis, THEIRS).keep()
    with pytest.raises(RequestError, match="no id known"):
        preflight.check_same_store(one.services)
    assert not Path(one.services.settings.store_url, keys.IDENTITY).exists()


def test_without_a_fleet_a_waiting_run_of_another_store_is_in_the_way_until_it_ends(
    redis: Redis, one: InProcessFleet
) -> None:
    run = one.runs.create(request(), THEIRS)
    with pytest.raises(RequestError, match=f"klines cancel {run}"):
        preflight.check_same_store(one.services)
    one.runs.end(run, State.CANCELLED)
    preflight.check_same_store(one.services)


def test_a_reader_asks_the_exchange_for_nothing_through_the_fleet_of_another_store(
    redis: Redis, one: InProcessFleet
) -> None:
    FleetStore(redis, THEIRS).keep()
    one.client.asked.clear()
    reader = FleetFetcher(one.services)
    with pytest.raises(RequestError, match="nothing was queued"):
        reader.trading_span(MINUTES)
    with pytest.raises(RequestError, match="nothing was queued"):
        reader.fetch({MINUTES: [JANUARY.span]})
    assert one.client.asked == []
    assert one.runs.active() == []


def test_a_run_tells_the_id_of_its_store(redis: Redis, one: InProcessFleet) -> None:
    own = one.services.own_store()
    run = one.runs.create(request(), own)
    progress = one.runs.progress(run)
    assert progress
    facts = summarize(one.services, progress).facts()
    assert json.loads(json.dumps(facts))["store"] == own.id
    earlier = one.runs.progress(one.runs.create(request()))
    assert earlier
    assert earlier.store == ""


def test_a_run_that_no_lane_can_serve_ends_with_one_line_that_names_both_stores(
    redis: Redis, one: InProcessFleet
) -> None:
    own = one.services.own_store()
    FleetStore(redis, own).keep()
    run = one.runs.create(request(), THEIRS)
    with pytest.raises(TaskFailed):
        plan_run(one.services, run)
    progress = one.runs.progress(run)
    assert progress
    assert progress.state is State.INCOMPLETE
    (reason,) = progress.failed.values()
    assert str(own) in reason
    assert str(THEIRS) in reason
    assert one.client.asked == []


def test_a_run_of_the_fleets_store_is_left_to_its_lanes_by_a_lane_that_lost_its_fleet(
    redis: Redis, one: InProcessFleet
) -> None:
    one.services.own_store()
    FleetStore(redis, THEIRS).keep()
    run = one.runs.create(request(), THEIRS)
    with pytest.raises(OtherStore):
        plan_run(one.services, run)
    assert one.runs.state(run) is State.RUNNING


def test_a_run_of_the_own_store_is_led(redis: Redis, one: InProcessFleet) -> None:
    run = one.runs.create(request(), one.services.own_store())
    one.services.stop.set()
    assert plan_run(one.services, run), "it goes on with the next plan task"


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (plan.plan, ["run"]),
        (fetch.fetch, ["run", str(JANUARY), JANUARY.span.start_ms, JANUARY.span.end_ms]),
        (compact.compact, ["run", str(JANUARY)]),
        (catalog.catalog, ["um"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_task_that_a_lane_of_another_store_holds_is_given_back(
    redis: Redis,
    one: InProcessFleet,
    monkeypatch: pytest.MonkeyPatch,
    task: Any,
    arguments: list[Any],
) -> None:
    give_back(redis, one.services, monkeypatch, task, arguments)


def test_a_piece_of_a_job_is_given_back_too(
    redis: Redis, one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = VerificationPiece(MINUTES, ("2024-01",))
    give_back(redis, one.services, monkeypatch, verify.verify, ["job", *piece.to_arguments()])


def test_a_migration_waits_until_lanes_have_named_the_store_that_has_just_got_its_id(
    redis: Redis, one: InProcessFleet
) -> None:
    own, waited = one.services.own_store(), list[float]()

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            FleetStore(redis, own).keep()

    preflight.await_same_store(one.services, pause)
    assert len(waited) == 3


def test_a_migration_is_not_given_to_lanes_that_never_name_its_store(
    redis: Redis, one: InProcessFleet
) -> None:
    own = one.services.own_store()
    with pytest.raises(RequestError) as refused:
        preflight.await_same_store(one.services, lambda _: None)
    assert str(own) in str(refused.value)
    with pytest.raises(RequestError, match="the fleet at this Redis serves"):
        preflight.await_same_store(one.services, lambda _: FleetStore(redis, THEIRS).keep())


def give_back(
    redis: Redis,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    task: Any,
    arguments: list[Any],
) -> None:
    """Assert that a lane whose fleet serves another store requeues the task."""
    services.stop.set()  # no pause before it is requeued
    monkeypatch.setattr(task.app, "services", services, raising=False)
    FleetStore(redis, THEIRS).keep()
    services.fleet_store.keep()
    with pytest.raises(Reject) as rejected:
        task.run(*arguments)
    assert rejected.value.requeue
    assert isinstance(rejected.value.reason, OtherStore)
    redis.delete(STORE)
    assert Runs(redis).active() == []

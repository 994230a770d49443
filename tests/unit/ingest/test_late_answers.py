"""Raw objects that come late, from a lane that had been given up, never put the clock back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.ingest.compaction import compact_partition
from klinefleet.tasks.planning.holdings import SeriesHoldings
from klinefleet.tasks.requests.request import Request
from klinefleet.workers.lake.partition_codec import decode
from klinefleet.workers.sources.policy import Mode
from tests.answers import ASKED_MS
from tests.unit.helpers.compaction import KEY
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet
from tests.unit.helpers.klines import JANUARY, MINUTES, body, minutes, opens

SPAN = minutes(0, 10)
REQUEST = Request(
    MINUTES.market,
    MINUTES.kind,
    MINUTES.interval,
    (MINUTES.symbol,),
    JANUARY.span.start_ms,
    JANUARY.span.end_ms,
    Mode.REST,
)


def compact(one: InProcessFleet, price: str, asked_ms: int, *, revise: bool = False) -> None:
    """Compact one answer of REST for a run of its own."""
    run = one.begin(replace(REQUEST, revise=revise))
    assert one.runs.partitions.claim(run, JANUARY)
    assert one.runs.partitions.open(run, JANUARY, [])
    one.services.raw_zone.store(
        JANUARY, SPAN, [body(opens(SPAN), price=price)], asked_ms=ASKED_MS + asked_ms
    )
    compact_partition(one.services, run, JANUARY)


def held(one: InProcessFleet) -> set[float]:
    return set(decode(one.services.store.read(KEY) or b"")["open"])


def test_the_raw_object_of_a_lane_that_was_given_up_replaces_no_held_row(
    one: InProcessFleet,
) -> None:
    compact(one, "2", 20)
    for asked_ms in (10, 30):
        compact(one, "1", asked_ms)
        assert held(one) == {2.0}


def test_a_revision_replaces_what_was_asked_for_before_and_a_late_one_nothing(
    one: InProcessFleet,
) -> None:
    compact(one, "1", 10)
    compact(one, "3", 30, revise=True)
    assert held(one) == {3.0}
    compact(one, "2", 20, revise=True)
    assert held(one) == {3.0}


def test_kept_raw_objects_do_not_undo_what_a_repair_has_removed(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = in_process_fleet(redis, tmp_path, {"BTCUSDT": 0}, keep_raw=True).patch(monkeypatch)
    compact(keeper, "1", 10)
    keeper.services.partitions.forget(JANUARY, [SPAN])
    holdings = SeriesHoldings(keeper.services, MINUTES)
    assert holdings.in_lake_or_raw == []
    assert not holdings.has_uncompacted(JANUARY)

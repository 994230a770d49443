"""Compaction on a real Redis and a folder: raw objects become proved rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.ingest.compaction import compact_partition
from klinefleet.tasks.ingest.raw_rows import final_rows
from klinefleet.workers.domain.errors import BadAnswer, OverWeight
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.limits.memory_slots import MemorySlots
from klinefleet.workers.storage.open import open_store
from tests.answers import ASKED_MS
from tests.unit.helpers.compaction import KEY, failed, lake, pending, ready, store
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet
from tests.unit.helpers.klines import JANUARY, MINUTES, body, frame, minutes, opens, times_of


def entry(span: Span) -> RawEntry:
    return RawEntry("raw/x", JANUARY, span, ASKED_MS, "0" * 16)


def test_rows_in_order_inside_their_window_are_taken_as_they_are() -> None:
    rows = frame([*opens(minutes(2, 4)), *opens(minutes(7, 9))])
    assert final_rows(rows, entry(minutes(0, 10))).equals(rows)


def test_rows_after_the_windows_end_were_still_forming_and_are_left_out() -> None:
    assert times_of(final_rows(frame(opens(minutes(0, 12))), entry(minutes(0, 10)))) == list(
        opens(minutes(0, 10))
    )


def test_no_rows_are_valid_too() -> None:
    assert final_rows(frame([]), entry(minutes(0, 10))).is_empty()


@pytest.mark.parametrize(
    "times",
    [
        [*opens(minutes(-1, 5))],
        [*reversed(opens(minutes(0, 5)))],
        [*opens(minutes(0, 5)), *opens(minutes(4, 8))],
        [*opens(minutes(5, 8)), *opens(minutes(0, 5))],
        [*opens(minutes(3, 5)), *opens(minutes(12, 13)), *opens(minutes(6, 8))],
    ],
    ids=[
        "before the window",
        "reversed",
        "a row twice",
        "pages swapped",
        "out of order after the end",
    ],
)
def test_rows_out_of_order_doubled_or_before_the_window_are_refused(times: list[int]) -> None:
    with pytest.raises(BadAnswer, match="will be fetched again"):
        final_rows(frame(times), entry(minutes(0, 10)))


def test_a_partition_is_merged_proved_and_its_raw_objects_go(one: InProcessFleet, run: str) -> None:
    for start in (0, 500, 1000):
        store(one, minutes(start, start + 500))
    compact_partition(one.services, run, JANUARY)
    assert lake(one) == list(opens(minutes(0, 1500)))
    assert one.services.coverage.covered(MINUTES) == [minutes(0, 1500)]
    assert one.services.raw_zone.entries(JANUARY) == []
    progress = one.runs.progress(run)
    assert progress
    assert (progress.counts["rows"], progress.counts["partitions_done"], progress.failed) == (
        1500,
        1,
        {},
    )
    assert one.runs.partitions.states(run) == {}


def test_a_compaction_whose_memory_does_not_come_free_changes_nothing_and_is_done_later(
    one: InProcessFleet, run: str
) -> None:
    store(one, minutes(0, 500))
    services = one.services
    services.memory_slots = MemorySlots(services.stop, free=lambda: 0, own=lambda: 0)
    with services.memory_slots.reserved(1 << 30, "another one"):
        services.stop.set()
        with pytest.raises(OverWeight, match="compact um/klines/1m/BTCUSDT/2024-01: this worker"):
            compact_partition(services, run, JANUARY)
    assert (lake(one), len(services.raw_zone.entries(JANUARY)), failed(one, run)) == ([], 1, {})
    compact_partition(services, run, JANUARY)
    assert lake(one) == list(opens(minutes(0, 500)))


def test_compacting_twice_is_compacting_once(one: InProcessFleet, run: str) -> None:
    store(one, minutes(0, 500))
    compact_partition(one.services, run, JANUARY)
    before = one.services.store.etag(KEY)
    store(one, minutes(0, 500))
    compact_partition(one.services, run, JANUARY)
    compact_partition(one.services, run, JANUARY)
    assert one.services.store.etag(KEY) == before
    progress = one.runs.progress(run)
    assert progress
    assert (progress.counts["rows"], progress.counts["partitions_done"]) == (500, 1)


def test_kept_raw_objects_lie_where_nothing_takes_them_for_new_ones(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = in_process_fleet(redis, tmp_path, {"BTCUSDT": 0}, keep_raw=True).patch(monkeypatch)
    kept = store(keeper, minutes(0, 500))
    compact_partition(keeper.services, ready(keeper, JANUARY), JANUARY)
    assert len(lake(keeper)) == 500
    assert keeper.services.raw_zone.entries(JANUARY) == []
    assert keeper.services.store.read(keys.kept(kept.key))


def test_a_window_without_candles_is_covered_once_a_second_answer_has_none(
    one: InProcessFleet, run: str
) -> None:
    one.services.raw_zone.store(JANUARY, minutes(0, 400), [b"[]"], asked_ms=ASKED_MS)
    compact_partition(one.services, run, JANUARY)
    assert (lake(one), one.services.coverage.covered(MINUTES)) == ([], [])
    (again,) = pending(one, run)
    assert (again.source, again.span) == (Source.REST, minutes(0, 400))
    one.services.raw_zone.store(JANUARY, minutes(0, 400), [b"[]"], asked_ms=ASKED_MS + 1)
    one.runs.partitions.finish_window(run, again, {})
    compact_partition(one.services, run, JANUARY)
    assert (lake(one), one.services.coverage.covered(MINUTES)) == ([], [minutes(0, 400)])
    assert one.services.coverage.held(MINUTES).unconfirmed == []


def test_nothing_to_compact_closes_the_partition_and_publishes_nothing(
    one: InProcessFleet, run: str
) -> None:
    compact_partition(one.services, run, JANUARY)
    assert one.runs.partitions.states(run) == {}
    assert one.services.store.list("lake") == []


def test_a_year_is_one_partition_and_covers_the_months_that_were_fetched(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = Series(Market.USD_M, KLINES, Interval.D1, "BTCUSDT")
    year, step_ms = Partition(days, "2024"), days.interval.step_ms
    yearly = in_process_fleet(redis, tmp_path, {"BTCUSDT": 0}).patch(monkeypatch)
    span = Span(utc_ms(2024, 2), utc_ms(2024, 5))
    times = range(span.start_ms, span.end_ms, step_ms)
    yearly.services.raw_zone.store(year, span, [body(times, step_ms)], asked_ms=ASKED_MS)
    compact_partition(yearly.services, ready(yearly, year), year)
    assert [e.key for e in yearly.services.store.list("lake")] == [keys.partition(year)]
    assert lake(yearly, keys.partition(year)) == list(times)
    assert yearly.services.coverage.covered(days) == [span]


def test_nothing_but_the_store_is_needed_to_tell_what_is_held(
    one: InProcessFleet, run: str, redis: Redis
) -> None:
    store(one, minutes(0, 500))
    compact_partition(one.services, run, JANUARY)
    redis.flushall()
    files = open_store(one.services.settings.store_url)
    assert [e.key for e in files.list("")] == [keys.IDENTITY, KEY]
    assert one.services.coverage.covered(MINUTES) == [minutes(0, 500)]

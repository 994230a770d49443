"""A run is complete if the lake holds its range, and names what is missing if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.planning.completion_check import MAX_REDISPATCHES
from klinefleet.tasks.planning.run_context import MAX_LOOKUPS
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.domain.errors import LeaseLost, TaskFailed, Unreachable
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.sources.policy import Mode
from tests.answers import ASKED_MS
from tests.unit.helpers.in_process_fleet import InProcessFleet, series_of
from tests.unit.helpers.klines import body
from tests.unit.helpers.planning import (
    BEGAN,
    LONG_S,
    MONTHS,
    Maker,
    always_check_lost_work,
    counts,
    covered,
    lead,
    lead_to_end,
    request,
    state,
)

JANUARY = Span(MONTHS[0], MONTHS[1])


def failed(one: InProcessFleet, run: str) -> dict[str, str]:
    progress = one.runs.progress(run)
    assert progress
    return progress.failed


def reported(one: InProcessFleet, run: str) -> dict[str, str]:
    progress = one.runs.progress(run)
    assert progress
    return progress.reported


def remembering(one: InProcessFleet, folder: Path) -> Coverage:
    """Return what tells the coverage and remembers footers, as workers of one machine do."""
    return Coverage(
        one.services.store, FooterCache(one.services.settings.store_url, folder / "memory.sqlite")
    )


def losing_raw(one: InProcessFleet, times: int) -> Callable[[], None]:
    """Work, but lose the raw zone just before a compaction, so many times."""
    left = [times]

    def work() -> None:
        while one.fetches:
            one.fetch_one()
        while one.compactions:
            if left[0]:
                left[0] -= 1
                one.services.raw_zone.drop(one.services.raw_zone.entries(series_of()))
            one.compact_one()

    return work


def test_raw_objects_lost_before_their_compaction_are_fetched_once_more(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request(months=1))
    assert not lead(one, run, monkeypatch, losing_raw(one, 1))
    assert (state(one, run), failed(one, run)) == (State.COMPLETE, {})
    assert covered(one) == [JANUARY]
    assert counts(one, run)["windows"] == 2 * 10


def test_what_is_lost_again_is_told_as_failed_and_not_fetched_for_ever(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a worker on another store: rows are compacted, and the lake has none."""
    run = one.begin(request(months=1))
    assert not lead(one, run, monkeypatch, losing_raw(one, 1000))
    assert state(one, run) is State.INCOMPLETE
    assert list(failed(one, run)) == [f"um BTCUSDT 1m {JANUARY}"]
    (told,) = failed(one, run).values()
    assert told.startswith("NotHeld: fetched and compacted twice, and not in the lake at ")
    assert "KLINES_STORE_URL" in told
    assert counts(one, run)["partitions"] == 1 + MAX_REDISPATCHES


def test_answers_that_end_too_early_are_asked_for_once_more(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange's clock was behind for a moment: closed candles seemed to be forming."""
    run, early = one.begin(request(months=1)), list[Window]()

    def work() -> None:
        if not early:
            _, window = one.fetches.pop()
            early.append(window)
            half = Span(window.span.start_ms, window.span.start_ms + DAY_MS)
            one.services.raw_zone.store(
                window.partition,
                half,
                [body(range(half.start_ms, half.end_ms, 60_000))],
                asked_ms=ASKED_MS,
            )
            told = {
                "windows_done": 1,
                "calls_done": page_count(window.partition.series, window.span),
            }
            one.runs.partitions.finish_window(run, window, told)
        one.work()

    assert not lead(one, run, monkeypatch, work)
    assert (state(one, run), covered(one)) == (State.COMPLETE, [JANUARY])
    (again,) = one.issued[10:]
    assert again.span == Span(early[0].span.start_ms + DAY_MS, early[0].span.end_ms)


def test_what_failed_for_good_is_not_asked_for_once_more(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gone = one.begin(request(months=1)), list[Window]()

    def work() -> None:
        if not gone:
            _, window = one.fetches.pop(0)
            gone.append(window)
            why = Record.for_window(Level.FAILED, window, "ServerFault: 500")
            one.runs.partitions.finish_window(run, window, {"windows_failed": 1}, records=[why])
        one.work()

    assert not lead(one, run, monkeypatch, work)
    assert failed(one, run) == {f"um BTCUSDT 1m {gone[0].span}": "ServerFault: 500"}
    assert len(one.issued) == 10


def test_a_failure_whose_time_the_lake_holds_all_the_same_is_a_report(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that failed just when the raw objects of a published partition were to go."""
    run = one.begin(request(months=1))
    [partition] = series_of().partitions(JANUARY)

    def work() -> None:
        one.runs.record(
            run, Record.for_partition(Level.FAILED, partition, "StoreFault: delete failed")
        )
        one.work()

    assert not lead(one, run, monkeypatch, work)
    assert (state(one, run), failed(one, run)) == (State.COMPLETE, {})
    (told,) = reported(one, run).values()
    assert told == "StoreFault: delete failed; the lake holds it anyway"


def test_the_end_waits_for_a_partition_that_another_run_has_by_then(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = one.begin(request(months=1)), one.begin(request(months=1))
    [partition] = series_of().partitions(JANUARY)
    taken: list[Partition] = []

    def work() -> None:
        if not taken:
            losing_raw(one, 1)()
            assert one.runs.partitions.claim(other, partition)
            taken.append(partition)
        elif one.runs.partitions.deferred(run):
            one.runs.end(other, State.CANCELLED)
        else:
            one.work()

    assert not lead(one, run, monkeypatch, work)
    assert taken
    assert (state(one, run), covered(one)) == (State.COMPLETE, [JANUARY])


def test_of_what_was_held_when_it_was_planned_nothing_is_looked_at_again(
    one: InProcessFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.services.__dict__["coverage"] = remembering(one, tmp_path)
    lead_to_end(one, one.begin(request()), monkeypatch)
    listed, real = list[str](), one.services.store.list
    monkeypatch.setattr(
        one.services.store, "list", lambda folder: listed.append(folder) or real(folder)
    )
    run = one.begin(request())
    lead_to_end(one, run, monkeypatch)
    assert state(one, run) is State.COMPLETE
    folder = "market=um/kind=klines/interval=1m/symbol=BTCUSDT"
    assert listed == [f"lake/{folder}", f"raw/{folder}"]


def test_before_the_end_a_series_that_was_fetched_costs_one_listing_and_no_footer(
    one: InProcessFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, listed, read = one.begin(request()), list[str](), list[str]()
    files = one.services.store
    list_, tail = files.list, files.read_tail
    one.services.__dict__["coverage"] = remembering(one, tmp_path)

    def watch() -> None:
        one.work()
        if not one.runs.partitions.states(run):
            monkeypatch.setattr(
                files, "list", lambda folder: listed.append(folder) or list_(folder)
            )
            monkeypatch.setattr(
                files, "read_tail", lambda key, size: read.append(key) or tail(key, size)
            )

    assert not lead(one, run, monkeypatch, watch)
    assert state(one, run) is State.COMPLETE
    assert (listed, read) == (["lake/market=um/kind=klines/interval=1m/symbol=BTCUSDT"], [])


@pytest.mark.parametrize(
    "lost", ["touched", "records", "tries", "deferred", "windows", "partitions"]
)
def test_a_part_of_its_state_that_redis_lost_never_makes_a_run_complete_that_is_not(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    always_check_lost_work(one)
    run, gone = one.begin(request(months=1)), list[int]()

    def work() -> None:
        if not gone and len(one.fetches) < 5:
            gone.append(redis.delete(f"klines:run:{run}:{lost}"))
            if lost in ("windows", "partitions", "touched"):
                one.fetches.clear()
        if one.fetches:
            one.fetch_one()
        elif one.compactions:
            one.compact_one()

    assert not lead(one, run, monkeypatch, work)
    assert gone
    assert state(one, run) is State.COMPLETE
    assert covered(one) == [JANUARY]


def test_a_planner_that_another_has_succeeded_stops_and_changes_nothing(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request(months=3))
    first = one.planner(run)
    first.issue()
    second = one.planner(run)
    with pytest.raises(LeaseLost):
        first.lead(LONG_S)
    issued = len(one.issued)
    second.issue()
    assert len(one.issued) == issued, "a partition was issued twice"
    lead_to_end(one, run, monkeypatch)
    assert counts(one, run)["windows"] == counts(one, run)["windows_done"]


def test_a_listing_that_lapsed_is_loaded_again_before_anybody_is_said_not_to_have_traded(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.delete("klines:listed:um", "klines:listed:um:pairs")
    run = one.begin(request(months=1))
    lead_to_end(one, run, monkeypatch)
    progress = one.runs.progress(run)
    assert progress
    assert (progress.state, progress.notes) == (State.COMPLETE, {})
    assert covered(one) == [JANUARY]


def test_while_the_exchange_does_not_tell_its_symbols_a_run_of_rest_alone_waits_and_fails_at_last(
    make_fleet: Maker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_fleet({"BTCUSDT": BEGAN})
    redis.delete("klines:listed:um", "klines:listed:um:pairs")

    def away() -> None:
        raise Unreachable("exchangeInfo: refused")

    monkeypatch.setattr(one.client, "exchange_info", away)
    run = one.begin(replace(request(months=1), source=Mode.REST))
    for _ in range(MAX_LOOKUPS - 1):
        with pytest.raises(Unreachable):
            lead(one, run, monkeypatch, one.work)
    with pytest.raises(TaskFailed, match="could not load symbols"):
        lead(one, run, monkeypatch, one.work)
    assert (one.issued, state(one, run)) == ([], State.RUNNING), (
        "klines.plan ends it, with this as its failure"
    )


def test_an_old_listing_stands_while_the_exchange_does_not_tell_a_newer_one(
    one: InProcessFleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.hincrby("klines:listed:um", "told@ms", -10 * 3_600_000)

    def away() -> None:
        raise Unreachable("exchangeInfo: refused")

    monkeypatch.setattr(one.client, "exchange_info", away)
    run = one.begin(request(months=1))
    lead_to_end(one, run, monkeypatch)
    assert (state(one, run), covered(one)) == (State.COMPLETE, [JANUARY])
    age_ms = one.services.symbol_cache.symbols_age_ms(series_of().market)
    assert age_ms
    assert age_ms > 9 * 3_600_000
    assert one.services.symbol_cache.listing(replace(series_of(), symbol="NONE")) is None

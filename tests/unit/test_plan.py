"""The planner on a real Redis and a folder; workers are a function that runs while it waits, so nothing sleeps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

import tasks.plan
from tasks.plan import Planner, wake_leaderless
from tasks.progress import COMPACTING, FETCHING, Runs, State, fetch_lease
from tasks.request import Request
from tests.unit.crew import Crew, crew, series_of
from tests.unit.klines import frame, opens, times_of
from workers import spans
from workers.binance.markets import page_count
from workers.errors import FleetError, Refused, Unreachable
from workers.heart import LEASES, Heart
from workers.lake import keys
from workers.lake.parquet import decode
from workers.model import DAY_MS, Interval, Kind, Market, Span, utc_ms

BEGAN = utc_ms(2019)
MONTHS = [utc_ms(2024, month) for month in range(1, 13)]
LONG_S = 3600.0

Maker = Callable[..., Crew]


@pytest.fixture
def maker(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    def make(began: dict[str, int | FleetError | None] | None = None, market: Market = Market.USD_M) -> Crew:
        return crew(redis, tmp_path, began or {"BTCUSDT": BEGAN}, market=market).patch(monkeypatch)

    return make


@pytest.fixture
def one(maker: Maker) -> Crew:
    return maker()


def request(*symbols: str, months: int = 2, market: Market = Market.USD_M, interval: Interval = Interval.M1) -> Request:
    return Request(market, Kind.KLINES, interval, symbols or ("BTCUSDT",), MONTHS[0], MONTHS[months])


def lead(one: Crew, run: str, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> bool:
    """Lead a run to its end or until `work`, which is done whenever the planner waits, raises."""
    waits = itertools.count()

    def wait(runs: Runs, run: str, seconds: float) -> None:
        assert next(waits) < 5000, "the run does not come to its end"
        work()

    monkeypatch.setattr(Runs, "wait", wait)
    return one.planner(run).lead(LONG_S)


def whole(one: Crew, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lead(one, run, monkeypatch, one.work)


def state(one: Crew, run: str) -> State:
    told = one.runs.state(run)
    assert told
    return told


def counts(one: Crew, run: str) -> dict[str, int]:
    progress = one.runs.progress(run)
    assert progress
    return progress.counts


def covered(one: Crew, symbol: str = "BTCUSDT") -> list[Span]:
    return one.tools.coverage.covered(series_of(symbol))


def hold(one: Crew, span: Span, symbol: str = "BTCUSDT") -> None:
    """Have the lake hold a span that lies within one month, without candles."""
    series = series_of(symbol)
    one.tools.partitions.merge(series, series.block(span.start_ms).period, frame([]), [span])


class CrashError(Exception):
    """The planner's process ends."""


def test_a_run_fetches_and_compacts_all_that_was_asked_for(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    run = one.begin(request())
    whole(one, run, monkeypatch)
    assert state(one, run) is State.COMPLETE
    assert covered(one) == [request().span]
    rows = [at for e in one.tools.files.list("lake") for at in times_of(decode(one.tools.files.read(e.key) or b""))]
    assert rows == list(opens(request().span))
    got = counts(one, run)
    assert (got["calls_issued"], got["calls_done"], got["calls_ahead"]) == (174, 174, 0)
    assert (got["blocks"], got["blocks_done"], got["blocks_held"], got["rows"]) == (2, 2, 0, len(rows))
    assert one.tools.files.list("raw") == []


def test_the_same_request_again_issues_nothing_and_is_complete(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(one, one.begin(request()), monkeypatch)
    one.issued.clear()
    run = one.begin(request())
    whole(one, run, monkeypatch)
    assert (one.issued, state(one, run)) == ([], State.COMPLETE)
    assert counts(one, run)["blocks_held"] == 2


def test_a_long_run_never_has_more_in_flight_than_allowed_and_one_block(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.plan, "WINDOWS_IN_FLIGHT", 12)
    run, highest = one.begin(request(months=4)), [0]

    def work() -> None:
        highest[0] = max(highest[0], one.runs.in_flight(run)[0])
        one.fetch_one() if one.fetches else one.compact_one()

    assert not lead(one, run, monkeypatch, work)
    assert 12 <= highest[0] < 12 + 10
    assert one.most_in_flight < 12 + 10
    assert covered(one) == [Span(MONTHS[0], MONTHS[4])]


def test_a_compaction_that_falls_behind_is_waited_for(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fetched faster than it is compacted fills the raw zone, and the queue with it."""
    monkeypatch.setattr(tasks.plan, "BLOCKS_UNDER_WAY", 3)
    run, highest = one.begin(request(months=8)), [0]

    def work() -> None:
        highest[0] = max(highest[0], one.runs.in_flight(run)[1])
        one.fetch_one() if one.fetches else one.compact_one()

    assert not lead(one, run, monkeypatch, work)
    assert highest[0] == 3
    assert covered(one) == [Span(MONTHS[0], MONTHS[8])]


def test_blocks_are_issued_oldest_first_and_only_as_others_finish(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.plan, "WINDOWS_IN_FLIGHT", 1)
    run, begun = one.begin(request(months=3)), list[list[str]]()

    def work() -> None:
        begun.append(sorted(block.period for block in one.runs.blocks(run)))
        one.work()

    lead(one, run, monkeypatch, work)
    assert begun[:3] == [["2024-01"], ["2024-02"], ["2024-03"]]


def test_what_is_held_is_not_issued(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [Span(MONTHS[0], MONTHS[1]), Span(MONTHS[1] + 3 * DAY_MS, MONTHS[1] + 9 * DAY_MS)]
    for span in held:
        hold(one, span)
    run = one.begin(request())
    whole(one, run, monkeypatch)
    issued = [window.span for window in one.issued]
    assert spans.union(issued) == spans.gaps(held, request().span)
    assert sum(s.end_ms - s.start_ms for s in issued) == sum(s.end_ms - s.start_ms for s in spans.union(issued))
    got = counts(one, run)
    assert (got["blocks_held"], got["blocks"], state(one, run)) == (1, 1, State.COMPLETE)


def test_raw_objects_left_over_go_straight_to_compaction(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    january = series_of().block(MONTHS[0])
    one.tools.raw.store(january, january.span, [b"[]"])
    run = one.begin(request(months=1))
    whole(one, run, monkeypatch)
    assert (one.issued, state(one, run)) == ([], State.COMPLETE)
    assert covered(one) == [january.span]
    assert one.tools.raw.entries(january) == []


def test_a_raw_object_that_covers_a_part_is_compacted_with_the_rest(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    january = series_of().block(MONTHS[0])
    left = Span(MONTHS[0], MONTHS[0] + 5 * DAY_MS)
    one.tools.raw.store(january, left, [b"[]"])
    whole(one, one.begin(request(months=1)), monkeypatch)
    assert spans.union(w.span for w in one.issued) == [Span(left.end_ms, MONTHS[1])]
    assert covered(one) == [january.span]


def test_raw_objects_whose_rows_are_in_the_lake_do_not_start_a_compaction(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    january = series_of().block(MONTHS[0])
    hold(one, january.span)
    one.tools.raw.store(january, january.span, [b"[]"])
    run = one.begin(request(months=1))
    whole(one, run, monkeypatch)
    assert counts(one, run)["blocks_held"] == 1
    assert one.compactions == []


@pytest.mark.parametrize("interval", [Interval.M1, Interval.H1, Interval.H4, Interval.D1, Interval.D3, Interval.MO1])
def test_every_interval_comes_to_its_end_with_all_covered(
    one: Crew, monkeypatch: pytest.MonkeyPatch, interval: Interval
) -> None:
    first, last = interval.ceil(MONTHS[0]), interval.floor(MONTHS[2])
    asked = Request(Market.USD_M, Kind.KLINES, interval, ("BTCUSDT",), first, last)
    run = one.begin(asked)
    whole(one, run, monkeypatch)
    assert state(one, run) is State.COMPLETE
    assert spans.gaps(one.tools.coverage.covered(series_of(interval=interval)), asked.span) == []


def test_a_week_over_the_turn_of_the_year_is_held_after_one_run(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """One candle: it opens on Monday 2024-12-30 and belongs to 2024; nothing of 2025 was asked for."""
    week = Request(Market.USD_M, Kind.KLINES, Interval.W1, ("BTCUSDT",), utc_ms(2024, 12, 30), utc_ms(2025, 1, 6))
    whole(one, one.begin(week), monkeypatch)
    again = one.begin(week)
    whole(one, again, monkeypatch)
    assert counts(one, again)["blocks"] == 0


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crashes=st.lists(st.integers(0, 6), max_size=4), in_flight=st.sampled_from([1, 3, 1500]))
@example(crashes=[0, 0, 1, 1], in_flight=1)
@example(crashes=[0, 1, 2], in_flight=3)
def test_a_planner_that_crashes_goes_on_without_issuing_anything_twice(
    redis: Redis, tmp_path_factory: pytest.TempPathFactory, crashes: list[int], in_flight: int
) -> None:
    redis.flushdb()
    with pytest.MonkeyPatch.context() as monkeypatch:
        one = crew(redis, tmp_path_factory.mktemp("s"), {"BTCUSDT": BEGAN, "ETHUSDT": BEGAN}).patch(monkeypatch)
        monkeypatch.setattr(tasks.plan, "WINDOWS_IN_FLIGHT", in_flight)
        monkeypatch.setattr(tasks.plan, "LOOK_S", LONG_S)
        asked = request("BTCUSDT", "ETHUSDT", months=2, interval=Interval.H1)
        run, left = one.begin(asked), list(crashes)

        def work() -> None:
            if left and left[0] == 0:
                left.pop(0)
                raise CrashError
            if left:
                left[0] -= 1
            if one.fetches or one.compactions:
                one.fetch_one() if one.fetches else one.compact_one()

        goes_on = True
        while goes_on:
            try:
                goes_on = lead(one, run, monkeypatch, work)
            except CrashError:
                continue
        assert state(one, run) is State.COMPLETE
        for symbol in asked.symbols:
            mine = [w.span for w in one.issued if w.block.series.symbol == symbol]
            assert sorted(mine) == sorted(set(mine))
            assert spans.union(mine) == [asked.span]
            assert sum(s.end_ms - s.start_ms for s in mine) == asked.end_ms - asked.start_ms
        got = counts(one, run)
        assert (got["blocks"], got["blocks_done"]) == (4, 4)
        assert got["calls_issued"] == got["calls_done"] == sum(page_count(w.block.series, w.span) for w in one.issued)


def test_a_planner_killed_between_noting_a_block_and_sending_it_is_mended(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The windows are on the latch and no message tells of them: they are sent once they are missed twice."""
    run = one.begin(request(months=1))

    def dies(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(tasks.plan, "send_fetch", dies)
        with pytest.raises(CrashError):
            one.planner(run).lead(LONG_S)
    monkeypatch.setattr(tasks.plan, "LOOK_S", 0.0)
    whole(one, run, monkeypatch)
    assert state(one, run) is State.COMPLETE
    assert covered(one) == [request(months=1).span]
    assert counts(one, run)["calls_done"] == 90


def test_a_lost_window_is_missed_twice_before_it_is_sent_again(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.plan, "LOOK_S", 0.0)
    run = one.begin(request(months=1))
    planner = one.planner(run)
    planner.issue(request(months=1))
    first, *rest = one.fetches
    one.fetches = rest
    while one.fetches:
        one.fetch_one()
    planner._mend()
    assert one.fetches == []
    planner._mend()
    assert one.fetches == [first]


@pytest.mark.parametrize("why", ["queued", "leased"])
def test_what_waits_in_its_queue_or_is_worked_on_is_not_sent_again(
    one: Crew, redis: Redis, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(tasks.plan, "LOOK_S", 0.0)
    run = one.begin(request(months=1))
    planner = one.planner(run)
    planner.issue(request(months=1))
    held = [window for _, window in one.fetches]
    one.fetches.clear()
    if why == "queued":
        redis.rpush("rest.futures", "a message")
    else:
        far_ms = int(time.time() * 1000) + 10**9
        redis.zadd(LEASES, {fetch_lease(w): far_ms for w in held})
    for _ in range(3):
        planner._mend()
    assert one.fetches == []
    redis.delete("rest.futures", LEASES)
    for _ in range(2):
        planner._mend()
    assert [window for _, window in one.fetches] == held


def test_a_lost_compaction_is_sent_again(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.plan, "LOOK_S", 0.0)
    run, lost = one.begin(request(months=1)), []

    def work() -> None:
        while one.fetches:
            one.fetch_one()
        if one.compactions and not lost:
            lost.append(one.compactions.pop())
        elif one.compactions:
            one.compact_one()

    assert not lead(one, run, monkeypatch, work)
    assert lost
    assert state(one, run) is State.COMPLETE


def test_a_block_whose_last_worker_died_before_telling_is_compacted(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.plan, "LOOK_S", 0.0)
    run = one.begin(request(months=1))
    planner = one.planner(run)
    planner.issue(request(months=1))
    while one.fetches:
        one.fetch_one()
    one.compactions.clear()
    planner._runs._redis.hset(f"klines:run:{run}:blocks", str(series_of().block(MONTHS[0])), f"{FETCHING}@0")
    planner._mend()
    assert one.compactions == [(run, series_of().block(MONTHS[0]))]
    assert one.runs.blocks(run) == {series_of().block(MONTHS[0]): COMPACTING}


def test_a_block_that_another_run_has_is_waited_for_and_not_fetched_twice(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = one.begin(request(months=1)), one.begin(request(months=2))
    planner = one.planner(first)
    planner.issue(request(months=1))
    january = len(one.issued)
    waits = itertools.count()

    def work() -> None:
        if next(waits) > 3:
            one.work()

    assert not lead(one, second, monkeypatch, work)
    assert state(one, second) is State.COMPLETE
    assert [w.block.period for w in one.issued[january:]] == ["2024-02"] * (len(one.issued) - january)
    assert covered(one) == [request(months=2).span]
    assert counts(one, second)["blocks_held"] == 1


def test_a_block_that_had_to_wait_and_was_issued_in_a_later_turn_is_not_issued_again_at_the_end(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn that put it aside ended before the cursor moved on; the next comes to it again and finds it free."""
    first, second = one.begin(request(months=1)), one.begin(request(months=1))
    [block] = series_of().blocks(request(months=1).span)
    assert one.runs.claim(first, block)
    assert not one.runs.claim(second, block)
    one.runs.end(first, State.CANCELLED)
    whole(one, second, monkeypatch)
    issued = [w.span for w in one.issued]
    assert sorted(issued) == sorted(set(issued))
    assert counts(one, second)["calls_issued"] == 90


def test_a_block_of_a_run_that_was_cancelled_is_taken_over(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = one.begin(request(months=1)), one.begin(request(months=1))
    planner = one.planner(first)
    planner.issue(request(months=1))
    for _ in range(4):
        one.fetch_one()
    done, sent, waits = [w.span for w in one.issued[:4]], len(one.issued), itertools.count()

    def work() -> None:
        waited = next(waits)
        if waited == 2:
            one.runs.end(first, State.CANCELLED)
        if waited > 2:
            one.work()

    assert not lead(one, second, monkeypatch, work)
    assert state(one, second) is State.COMPLETE
    assert covered(one) == [request(months=1).span]
    assert spans.union(w.span for w in one.issued[sent:]) == spans.gaps(done, request(months=1).span)


def test_a_block_that_another_run_has_compacted_since_the_planner_looked_is_not_fetched_again(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held is read once a symbol; the second block comes into the lake while the first is being fetched."""
    monkeypatch.setattr(tasks.plan, "WINDOWS_IN_FLIGHT", 1)
    run, others = one.begin(request(months=2)), []
    second_month = Request(Market.USD_M, Kind.KLINES, Interval.M1, ("BTCUSDT",), MONTHS[1], MONTHS[2])

    def work() -> None:
        if not others:
            others.append(one.begin(second_month))
            planner = one.planner(others[0])
            planner.issue(second_month)
        one.work()

    assert not lead(one, run, monkeypatch, work)
    assert [w.block.period for w in one.issued] == ["2024-01"] * 10 + ["2024-02"] * 10
    assert (counts(one, run)["blocks_held"], counts(one, others[0])["blocks_done"]) == (1, 1)


def test_a_cancelled_run_issues_no_more(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.plan, "WINDOWS_IN_FLIGHT", 1)
    run = one.begin(request(months=11))

    def work() -> None:
        one.runs.end(run, State.CANCELLED)

    assert not lead(one, run, monkeypatch, work)
    assert {w.block.period for w in one.issued} == {"2024-01"}
    assert state(one, run) is State.CANCELLED


def test_a_planner_leads_for_its_turn_only_and_says_that_the_run_goes_on(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request())
    assert one.planner(run).lead(0)
    assert one.issued == []
    monkeypatch.setattr(Runs, "wait", lambda *_: one.tools.stop.set())
    assert one.planner(run).lead(LONG_S)


def test_a_run_that_is_known_no_more_is_let_go(one: Crew) -> None:
    assert not one.planner("long-gone").lead(LONG_S)


def test_a_window_that_failed_for_good_ends_the_run_incomplete_and_stays_missing(
    one: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, failed = one.begin(request(months=1)), []

    def work() -> None:
        if not failed:
            _, window = one.fetches.pop(3)
            failed.append(window)
            one.runs.finish(run, window, {"windows_failed": 1}, reason="ServerFault: 500")
        one.work()

    lead(one, run, monkeypatch, work)
    assert state(one, run) is State.INCOMPLETE
    one.issued.clear()
    again = one.begin(request(months=1))
    whole(one, again, monkeypatch)
    assert spans.union(w.span for w in one.issued) == [failed[0].span]
    assert state(one, again) is State.COMPLETE


def test_time_before_a_symbol_was_listed_is_never_asked_for(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    began = MONTHS[1] + 5 * DAY_MS + 12_345_678
    one = maker({"BTCUSDT": began})
    run = one.begin(request(months=3))
    whole(one, run, monkeypatch)
    assert spans.union(w.span for w in one.issued) == [Span(Interval.M1.floor(began), MONTHS[3])]
    assert state(one, run) is State.COMPLETE
    progress = one.runs.progress(run)
    assert progress
    assert progress.notes["BTCUSDT"].startswith("traded only in 2024-02-06T03:25")


def test_a_symbol_that_never_traded_then_is_complete_and_said_so(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    one = maker({"BTCUSDT": utc_ms(2025), "ETHUSDT": BEGAN})
    run = one.begin(request("BTCUSDT", "ETHUSDT", months=1))
    whole(one, run, monkeypatch)
    assert {w.block.series.symbol for w in one.issued} == {"ETHUSDT"}
    progress = one.runs.progress(run)
    assert progress
    assert (progress.state, progress.notes) == (State.COMPLETE, {"BTCUSDT": "did not trade then"})


@pytest.mark.parametrize("in_flight", [1, 1500])
def test_the_newest_block_of_a_spot_symbol_is_fetched_while_its_first_candle_is_asked_for(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    monkeypatch.setattr(tasks.plan, "WINDOWS_IN_FLIGHT", in_flight)
    one = maker({"BTCUSDT": MONTHS[1]}, market=Market.SPOT)
    asked = request(market=Market.SPOT, months=4)
    run, seen = one.begin(asked), []
    real = one.client.first_open_ms
    monkeypatch.setattr(
        one.client, "first_open_ms", lambda *a: seen.append({w.block.period for w in one.issued}) or real(*a)
    )
    whole(one, run, monkeypatch)
    assert seen == [{"2024-04"}]
    assert one.client.asked == ["BTCUSDT"]
    issued = [w.span for w in one.issued]
    assert spans.union(issued) == [Span(MONTHS[1], MONTHS[4])]
    assert sum(s.end_ms - s.start_ms for s in issued) == MONTHS[4] - MONTHS[1]
    assert (counts(one, run)["blocks"], counts(one, run)["blocks_held"]) == (3, 0)
    whole(one, one.begin(request(market=Market.SPOT, months=5)), monkeypatch)
    assert one.client.asked == ["BTCUSDT"]


def test_a_symbol_whose_first_candle_is_refused_fails_alone(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    one = maker({"BAD": Refused("400 Invalid symbol.", code=-1121), "GOOD": BEGAN}, market=Market.SPOT)
    run = one.begin(request("BAD", "GOOD", market=Market.SPOT, months=2))
    whole(one, run, monkeypatch)
    assert state(one, run) is State.INCOMPLETE
    progress = one.runs.progress(run)
    assert progress
    assert progress.failed == {"spot BAD": "Refused: 400 Invalid symbol."}
    assert one.tools.coverage.covered(series_of("GOOD", market=Market.SPOT)) == [request(months=2).span]


def test_an_exchange_that_does_not_answer_is_asked_again_in_a_bounded_number_of_turns(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = maker({"BTCUSDT": Unreachable("refused")}, market=Market.SPOT)
    run, turns = one.begin(request(market=Market.SPOT, months=2)), 0
    goes_on = True
    while goes_on:
        turns += 1
        assert turns < 20
        try:
            goes_on = lead(one, run, monkeypatch, one.work)
        except Unreachable:
            continue
    assert turns == tasks.plan.TRIES
    assert state(one, run) is State.INCOMPLETE


def test_a_partition_that_cannot_be_read_does_not_keep_the_run_from_its_end(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = maker({"BTCUSDT": BEGAN, "ETHUSDT": BEGAN})
    one.tools.files.put(keys.partition(series_of(), "2024-01"), b"this is no Parquet file")
    run, goes_on, turns = one.begin(request("BTCUSDT", "ETHUSDT", months=1)), True, 0
    while goes_on and turns < 20:
        turns += 1
        with suppress(FleetError):
            goes_on = lead(one, run, monkeypatch, one.work)
    assert covered(one, "ETHUSDT") == [request(months=1).span]
    assert state(one, run) is State.INCOMPLETE


def test_only_a_run_that_nobody_leads_is_sent_a_planner(one: Crew, redis: Redis) -> None:
    led, lost = one.begin(request()), one.begin(request())
    with Heart(redis).lease(f"plan|{led}"):
        wake_leaderless(one.tools)
        assert one.planners == [lost]
        redis.rpush("plan", "a message")
        wake_leaderless(one.tools)
        assert one.planners == [lost]


def test_of_two_planners_only_one_leads(one: Crew, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    run = one.begin(request())
    monkeypatch.setattr(tasks.plan.app, "toolbox", one.tools, raising=False)
    monkeypatch.setattr(Planner, "lead", lambda *_: pytest.fail("two planners lead one run"))
    with Heart(redis).lease(f"plan|{run}"):
        tasks.plan.plan.run(run)
    assert one.planners == []


def test_a_planner_whose_turn_is_over_sends_for_the_next(one: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    run = one.begin(request())
    monkeypatch.setattr(tasks.plan.app, "toolbox", one.tools, raising=False)
    monkeypatch.setattr(Planner, "lead", lambda *_: True)
    tasks.plan.plan.run(run)
    assert one.planners == [run]
    monkeypatch.setattr(Planner, "lead", lambda *_: False)
    tasks.plan.plan.run(run)
    assert one.planners == [run]

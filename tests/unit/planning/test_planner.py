"""What the planner issues, in which order, and what a run comes to."""

from __future__ import annotations

from contextlib import suppress

import pytest

from klinefleet.tasks.planning.run_context import MAX_LOOKUPS, PlannerLimits
from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.progress import State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import (
    FleetError,
    Refused,
    StoreFault,
    TaskFailed,
    Unreachable,
)
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.partition_codec import decode
from tests.answers import ASKED_MS
from tests.unit.helpers.in_process_fleet import InProcessFleet, series_of
from tests.unit.helpers.klines import body, opens, times_of
from tests.unit.helpers.planning import (
    BEGAN,
    MONTHS,
    Maker,
    counts,
    covered,
    hold,
    lead,
    lead_to_end,
    request,
    state,
)


def test_a_run_fetches_and_compacts_all_that_was_asked_for(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request())
    lead_to_end(one, run, monkeypatch)
    assert state(one, run) is State.COMPLETE
    assert covered(one) == [request().span]
    rows = [
        at
        for e in one.services.store.list("lake")
        for at in times_of(decode(one.services.store.read(e.key) or b""))
    ]
    assert rows == list(opens(request().span))
    got = counts(one, run)
    assert (got["calls_issued"], got["calls_done"], got["calls_ahead"]) == (174, 174, 0)
    assert (got["partitions"], got["partitions_done"], got["partitions_held"], got["rows"]) == (
        2,
        2,
        0,
        len(rows),
    )
    assert one.services.store.list("raw") == []


def test_the_same_request_again_issues_nothing_and_is_complete(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_to_end(one, one.begin(request()), monkeypatch)
    one.issued.clear()
    run = one.begin(request())
    lead_to_end(one, run, monkeypatch)
    assert (one.issued, state(one, run)) == ([], State.COMPLETE)
    assert counts(one, run)["partitions_held"] == 2


def test_a_long_run_never_has_more_in_flight_than_allowed_and_one_partition(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.limits = PlannerLimits(windows_in_flight=12)
    run, highest = one.begin(request(months=4)), [0]

    def work() -> None:
        highest[0] = max(highest[0], one.runs.partitions.count_in_flight(run)[0])
        one.fetch_one() if one.fetches else one.compact_one()

    assert not lead(one, run, monkeypatch, work)
    assert 12 <= highest[0] < 12 + 10
    assert one.most_in_flight < 12 + 10
    assert covered(one) == [Span(MONTHS[0], MONTHS[4])]


def test_a_compaction_that_falls_behind_is_waited_for(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fetched faster than it is compacted fills the raw zone, and the queue with it."""
    one.limits = PlannerLimits(partitions_in_flight=3)
    run, highest = one.begin(request(months=8)), [0]

    def work() -> None:
        highest[0] = max(highest[0], one.runs.partitions.count_in_flight(run)[1])
        one.fetch_one() if one.fetches else one.compact_one()

    assert not lead(one, run, monkeypatch, work)
    assert highest[0] == 3
    assert covered(one) == [Span(MONTHS[0], MONTHS[8])]


def test_partitions_are_issued_oldest_first_and_only_as_others_finish(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.limits = PlannerLimits(windows_in_flight=1)
    run, begun = one.begin(request(months=3)), list[list[str]]()

    def work() -> None:
        begun.append(sorted(partition.period for partition in one.runs.partitions.states(run)))
        one.work()

    lead(one, run, monkeypatch, work)
    assert begun[:3] == [["2024-01"], ["2024-02"], ["2024-03"]]


def test_what_is_held_is_not_issued(one: InProcessFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [Span(MONTHS[0], MONTHS[1]), Span(MONTHS[1] + 3 * DAY_MS, MONTHS[1] + 9 * DAY_MS)]
    for span in held:
        hold(one, span)
    run = one.begin(request())
    lead_to_end(one, run, monkeypatch)
    issued = [window.span for window in one.issued]
    assert spans.union(issued) == spans.gaps(held, request().span)
    assert sum(s.end_ms - s.start_ms for s in issued) == sum(
        s.end_ms - s.start_ms for s in spans.union(issued)
    )
    got = counts(one, run)
    assert (got["partitions_held"], got["partitions"], state(one, run)) == (1, 1, State.COMPLETE)


def test_raw_objects_left_over_go_straight_to_compaction(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    january = series_of().partition(MONTHS[0])
    page = body(opens(january.span))
    one.services.raw_zone.store(january, january.span, [page], asked_ms=ASKED_MS)
    run = one.begin(request(months=1))
    lead_to_end(one, run, monkeypatch)
    assert (one.issued, state(one, run)) == ([], State.COMPLETE)
    assert covered(one) == [january.span]
    assert one.services.raw_zone.entries(january) == []


def test_a_raw_object_that_covers_a_part_is_compacted_with_the_rest(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    january = series_of().partition(MONTHS[0])
    left = Span(MONTHS[0], MONTHS[0] + 5 * DAY_MS)
    one.services.raw_zone.store(january, left, [body(opens(left))], asked_ms=ASKED_MS)
    lead_to_end(one, one.begin(request(months=1)), monkeypatch)
    assert spans.union(w.span for w in one.issued) == [Span(left.end_ms, MONTHS[1])]
    assert covered(one) == [january.span]


def test_raw_objects_whose_rows_are_in_the_lake_do_not_start_a_compaction(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    january = series_of().partition(MONTHS[0])
    hold(one, january.span)
    one.services.raw_zone.store(january, january.span, [b"[]"], asked_ms=ASKED_MS)
    run = one.begin(request(months=1))
    lead_to_end(one, run, monkeypatch)
    assert counts(one, run)["partitions_held"] == 1
    assert one.compactions == []


@pytest.mark.parametrize(
    "interval", [Interval.M1, Interval.H1, Interval.H4, Interval.D1, Interval.D3, Interval.MO1]
)
def test_every_interval_comes_to_its_end_with_all_covered(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch, interval: Interval
) -> None:
    first, last = interval.ceil(MONTHS[0]), interval.floor(MONTHS[2])
    asked = Request(Market.USD_M, KLINES, interval, ("BTCUSDT",), first, last)
    run = one.begin(asked)
    lead_to_end(one, run, monkeypatch)
    assert state(one, run) is State.COMPLETE
    assert spans.gaps(one.services.coverage.covered(series_of(interval=interval)), asked.span) == []


def test_a_week_over_the_turn_of_the_year_is_held_after_one_run(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One candle: it opens on Monday 2024-12-30 and belongs to 2024."""
    week = Request(
        Market.USD_M,
        KLINES,
        Interval.W1,
        ("BTCUSDT",),
        utc_ms(2024, 12, 30),
        utc_ms(2025, 1, 6),
    )
    lead_to_end(one, one.begin(week), monkeypatch)
    again = one.begin(week)
    lead_to_end(one, again, monkeypatch)
    assert counts(one, again)["partitions"] == 0


def test_a_window_that_failed_for_good_ends_the_run_incomplete_and_stays_missing(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, failed = one.begin(request(months=1)), []

    def work() -> None:
        if not failed:
            _, window = one.fetches.pop(3)
            failed.append(window)
            failed_for = Record.for_window(Level.FAILED, window, "ServerFault: 500")
            one.runs.partitions.finish_window(
                run, window, {"windows_failed": 1}, records=[failed_for]
            )
        one.work()

    lead(one, run, monkeypatch, work)
    assert state(one, run) is State.INCOMPLETE
    one.issued.clear()
    again = one.begin(request(months=1))
    lead_to_end(one, again, monkeypatch)
    assert spans.union(w.span for w in one.issued) == [failed[0].span]
    assert state(one, again) is State.COMPLETE


def test_a_run_whose_store_refuses_writes_ends_instead_of_failing_window_by_window(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, failed = one.begin(request(months=11)), []

    def refuse() -> None:
        raise StoreFault("could not write: No space left on device")

    def work() -> None:
        _, window = one.fetches.pop()
        failed.append(window)
        one.runs.partitions.finish_window(run, window, {"windows_failed": 1})
        if len(failed) == 3:
            monkeypatch.setattr(one.services.store, "check_writable", refuse)

    with pytest.raises(TaskFailed, match=r"No space left on device; what had not begun was not"):
        lead(one, run, monkeypatch, work)
    assert len(failed) == 3, "a store that can be written again is no reason"


def test_time_before_a_symbol_was_listed_is_never_asked_for(
    make_fleet: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = MONTHS[1] + 5 * DAY_MS + 12_345_678
    one = make_fleet({"BTCUSDT": began})
    run = one.begin(request(months=3))
    lead_to_end(one, run, monkeypatch)
    assert spans.union(w.span for w in one.issued) == [Span(Interval.M1.floor(began), MONTHS[3])]
    assert state(one, run) is State.COMPLETE
    progress = one.runs.progress(run)
    assert progress
    assert progress.notes["BTCUSDT"].startswith("traded only in 2024-02-06T03:25")


def test_a_symbol_that_never_traded_then_is_complete_and_said_so(
    make_fleet: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_fleet({"BTCUSDT": utc_ms(2025), "ETHUSDT": BEGAN})
    run = one.begin(request("BTCUSDT", "ETHUSDT", months=1))
    lead_to_end(one, run, monkeypatch)
    assert {w.partition.series.symbol for w in one.issued} == {"ETHUSDT"}
    progress = one.runs.progress(run)
    assert progress
    assert (progress.state, progress.notes) == (State.COMPLETE, {"BTCUSDT": "did not trade then"})


@pytest.mark.parametrize("in_flight", [1, 1500])
def test_the_newest_partition_of_a_spot_symbol_is_fetched_while_its_first_candle_is_asked_for(
    make_fleet: Maker, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    one = make_fleet({"BTCUSDT": MONTHS[1]}, market=Market.SPOT)
    one.limits = PlannerLimits(windows_in_flight=in_flight)
    asked = request(market=Market.SPOT, months=4)
    run, seen = one.begin(asked), []
    real = one.client.first_open_ms
    monkeypatch.setattr(
        one.client,
        "first_open_ms",
        lambda *a: seen.append({w.partition.period for w in one.issued}) or real(*a),
    )
    lead_to_end(one, run, monkeypatch)
    assert seen == [{"2024-04"}]
    assert one.client.asked == ["BTCUSDT"]
    issued = [w.span for w in one.issued]
    assert spans.union(issued) == [Span(MONTHS[1], MONTHS[4])]
    assert sum(s.end_ms - s.start_ms for s in issued) == MONTHS[4] - MONTHS[1]
    assert (counts(one, run)["partitions"], counts(one, run)["partitions_held"]) == (3, 0)
    lead_to_end(one, one.begin(request(market=Market.SPOT, months=5)), monkeypatch)
    assert one.client.asked == ["BTCUSDT"]


def test_a_symbol_whose_first_candle_is_refused_fails_alone(
    make_fleet: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_fleet(
        {"BAD": Refused("400 Invalid symbol.", code=-1121), "GOOD": BEGAN}, market=Market.SPOT
    )
    run = one.begin(request("BAD", "GOOD", market=Market.SPOT, months=2))
    lead_to_end(one, run, monkeypatch)
    assert state(one, run) is State.INCOMPLETE
    progress = one.runs.progress(run)
    assert progress
    assert progress.failed == {"spot BAD": "Refused: 400 Invalid symbol."}
    assert one.services.coverage.covered(series_of("GOOD", market=Market.SPOT)) == [
        request(months=2).span
    ]


def test_an_exchange_that_does_not_answer_is_asked_again_in_a_bounded_number_of_turns(
    make_fleet: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_fleet({"BTCUSDT": Unreachable("refused")}, market=Market.SPOT)
    run, turns = one.begin(request(market=Market.SPOT, months=2)), 0
    goes_on = True
    while goes_on:
        turns += 1
        assert turns < 20
        try:
            goes_on = lead(one, run, monkeypatch, one.work)
        except Unreachable:
            continue
    assert turns == MAX_LOOKUPS
    assert state(one, run) is State.INCOMPLETE


def test_a_partition_that_cannot_be_read_does_not_keep_the_run_from_its_end(
    make_fleet: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_fleet({"BTCUSDT": BEGAN, "ETHUSDT": BEGAN})
    one.services.store.put(
        keys.partition(Partition(series_of(), "2024-01")), b"this is no Parquet file"
    )
    run, goes_on, turns = one.begin(request("BTCUSDT", "ETHUSDT", months=1)), True, 0
    while goes_on and turns < 20:
        turns += 1
        with suppress(FleetError):
            goes_on = lead(one, run, monkeypatch, one.work)
    assert covered(one, "ETHUSDT") == [request(months=1).span]
    assert state(one, run) is State.INCOMPLETE

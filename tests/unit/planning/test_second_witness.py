"""Held time that one witness alone speaks of: a later run asks another, so often at most."""

from __future__ import annotations

import pytest
from redis import Redis

from klinefleet.tasks.planning import dispatch
from klinefleet.tasks.runs.progress import State
from klinefleet.workers.domain.errors import Unreachable
from klinefleet.workers.domain.series import Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS
from tests.answers import covering
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet, series_of
from tests.unit.helpers.klines import frame, opens
from tests.unit.helpers.planning import (
    BEGAN,
    MONTHS,
    counts,
    lead_to_end,
    request,
    state,
)

JANUARY = Span(MONTHS[0], MONTHS[1])
#: Four days without a row, each a call of its own.
GAPS = [Span(MONTHS[0] + n * 7 * DAY_MS, MONTHS[0] + (n * 7 + 1) * DAY_MS) for n in range(4)]


@pytest.fixture
def one(
    redis: Redis, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> InProcessFleet:
    """A fleet whose lake has a January with gaps that a monthly file alone speaks of."""
    one = in_process_fleet(redis, tmp_path_factory.mktemp("s"), {"BTCUSDT": BEGAN})
    times = [at for at in opens(JANUARY) if not any(g.start_ms <= at < g.end_ms for g in GAPS)]
    partition = series_of().partition(MONTHS[0])
    one.services.partitions.merge(partition, frame(times), covering(JANUARY))
    return one.patch(monkeypatch)


def unconfirmed(one: InProcessFleet) -> list[Span]:
    return one.services.coverage.held(series_of()).unconfirmed


def test_gaps_of_one_witness_are_asked_about_and_what_exists_is_gained(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one.begin(request(months=1))
    lead_to_end(one, run, monkeypatch)
    assert sorted({w.span.start_ms for w in one.issued}) == [gap.start_ms for gap in GAPS]
    assert {w.source for w in one.issued} == {Source.REST}
    assert (counts(one, run)["rows"], state(one, run)) == (4 * 1440, State.COMPLETE)
    assert one.services.coverage.held(series_of()).gaps == []
    one.issued.clear()
    lead_to_end(one, one.begin(request(months=1)), monkeypatch)
    assert one.issued == []


def test_one_run_asks_so_often_at_most_and_the_next_goes_on(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "MAX_WITNESS_WINDOWS", 2)
    for left in (2, 0):
        one.issued.clear()
        run = one.begin(request(months=1))
        lead_to_end(one, run, monkeypatch)
        assert len(one.issued) == 2
        assert (len(unconfirmed(one)), state(one, run)) == (left, State.COMPLETE)
        assert counts(one, run)["absent_by_one"] == left * 1440


def test_time_outside_the_request_is_not_asked_about(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(months=1)
    half = type(asked)(
        asked.market, asked.kind, asked.interval, asked.symbols, GAPS[2].start_ms, MONTHS[1]
    )
    lead_to_end(one, one.begin(half), monkeypatch)
    assert {w.span for w in one.issued} == set(GAPS[2:])
    assert unconfirmed(one) == GAPS[:2]


def test_the_days_files_are_asked_where_they_are_published(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the second day has no row either; the others are not published."""
    one.archive.publish(series_of(), "2024-01-08", b"")
    run = one.begin(request(months=1))
    lead_to_end(one, run, monkeypatch)
    assert {(w.source, w.span) for w in one.issued if w.source == Source.DAILY} == {
        (Source.DAILY, GAPS[1])
    }
    assert unconfirmed(one) == []


def test_an_archive_that_does_not_answer_leaves_rest_to_be_asked(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.archive.fault = Unreachable("no route")
    run = one.begin(request(months=1))
    lead_to_end(one, run, monkeypatch)
    assert (state(one, run), unconfirmed(one)) == (State.COMPLETE, [])

"""A run whose REST does not answer goes on with the archive, and names what stays missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import pytest

from klinefleet.tasks.ingest.fetch_window import fetch_window
from klinefleet.tasks.planning.run_context import MAX_LOOKUPS
from klinefleet.tasks.runs.policy import policy_for_run
from klinefleet.tasks.runs.progress import State
from klinefleet.workers.domain.errors import FleetError, Refused, Restricted, Unreachable
from klinefleet.workers.domain.series import Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.sources.policy import Mode
from klinefleet.workers.support.retry import RetryPolicy
from tests.unit.helpers.in_process_fleet import InProcessFleet, series_of
from tests.unit.helpers.klines import opens, row
from tests.unit.helpers.planning import MONTHS, covered, lead, lead_to_end, request, state

JANUARY = Span(MONTHS[0], MONTHS[1])


def silence(one: InProcessFleet, monkeypatch: pytest.MonkeyPatch, fault: FleetError) -> None:
    """Have REST raise this, whatever it is asked; nothing was asked before."""

    def away(*_: Any, **__: Any) -> NoReturn:
        raise fault

    for name in ("exchange_info", "first_open_ms", "newest_open_ms", "rows"):
        monkeypatch.setattr(one.client, name, away, raising=False)
    one.services.redis.delete("klines:listed:um", "klines:listed:um:pairs")


def publish(one: InProcessFleet, *months: int) -> None:
    for month in months:
        span = Span(MONTHS[month - 1], MONTHS[month])
        lines = "\n".join(row(at).strip("[]").replace('"', "") for at in opens(span))
        one.archive.publish(series_of(), f"2024-{month:02}", lines.encode())


def failed(one: InProcessFleet, run: str) -> dict[str, str]:
    progress = one.runs.progress(run)
    assert progress
    return progress.failed


def test_where_rest_may_not_serve_this_address_files_answer_for_all_that_they_have(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(one, monkeypatch, Restricted("451"))
    publish(one, 1, 2)
    run = one.begin(request(months=2))
    lead_to_end(one, run, monkeypatch)
    assert (state(one, run), failed(one, run)) == (State.COMPLETE, {})
    assert covered(one) == [request(months=2).span]
    assert {window.source for window in one.issued} == {Source.MONTHLY}
    progress = one.runs.progress(run)
    assert progress
    assert progress.reported == {"REST": "Restricted: 451; the archive alone instead"}


def test_what_no_file_has_and_rest_would_have_is_named_with_the_cause(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(one, monkeypatch, Restricted("451"))
    publish(one, 1)
    run = one.begin(request(months=2))
    lead_to_end(one, run, monkeypatch)
    assert state(one, run) is State.INCOMPLETE
    assert covered(one) == [JANUARY]
    assert failed(one, run) == {"um BTCUSDT 1m 2024-02-01..2024-03-01": "Restricted: 451"}


def test_a_rest_that_is_down_is_asked_a_bounded_number_of_times_before_files_answer(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(one, monkeypatch, Unreachable("refused"))
    publish(one, 1)
    run, turns = one.begin(request(months=1)), 0
    while state(one, run) is State.RUNNING and turns < 20:
        turns += 1
        try:
            lead(one, run, monkeypatch, one.work)
        except Unreachable:
            continue
    assert turns == MAX_LOOKUPS
    assert (state(one, run), covered(one)) == (State.COMPLETE, [JANUARY])


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.REST])
def test_only_a_run_that_may_use_both_goes_on_without_rest(
    one: InProcessFleet, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    run = one.begin(replace(request(months=1), source=mode))
    assert policy_for_run(one.services, run, series_of()).may_rest
    silence(one, monkeypatch, Restricted("451"))
    publish(one, 1)
    if mode is Mode.REST:
        with pytest.raises(FleetError, match="could not load symbols"):
            lead(one, run, monkeypatch, one.work)
        assert one.issued == []
    else:
        lead_to_end(one, run, monkeypatch)
        assert not policy_for_run(one.services, run, series_of()).may_rest


@pytest.mark.parametrize(
    ("fault", "is_replaced"),
    [(Restricted("451"), True), (Unreachable("reset"), True), (Refused("400", code=-1), False)],
    ids=["restricted", "unreachable", "an answer"],
)
def test_a_window_of_rest_is_replaced_by_files_once_and_only_where_nobody_answers(
    one: InProcessFleet,
    monkeypatch: pytest.MonkeyPatch,
    fault: FleetError,
    is_replaced: bool,
) -> None:
    monkeypatch.setattr("klinefleet.tasks.ingest.rest_window.REST_PAGE", RetryPolicy(1, 0.0))
    run = one.begin(request(months=1))
    publish(one, 1)
    one.planner(run).issue()
    _, window = one.fetches.pop(0)
    sent = len(one.fetches)
    assert window.source == Source.REST
    one.client.rows = lambda *_: (_ for _ in ()).throw(fault)  # type: ignore[attr-defined]
    reason = fetch_window(one.services, run, window)
    assert bool(reason) is not is_replaced
    assert [other.source for _, other in one.fetches[sent:]] == [Source.MONTHLY] * is_replaced
    assert (one.runs.rest_fault(run) is not None) is isinstance(fault, Restricted)
    one.work()
    lead_to_end(one, run, monkeypatch)
    assert state(one, run) is (State.COMPLETE if is_replaced else State.INCOMPLETE)

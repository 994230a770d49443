"""What a reader requests of a fleet: few runs, awaited, and cancelled with the command."""

from __future__ import annotations

from typing import Any

import pytest

from klinefleet.tasks.client import fetcher
from klinefleet.tasks.client.fetcher import FleetFetcher, group_into_requests
from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import RequestError, TaskFailed, UnknownSymbol
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS, utc_ms
from tests.unit.helpers.in_process_fleet import InProcessFleet, series_of
from tests.unit.helpers.planning import BEGAN, MONTHS, Maker

JANUARY, MARCH = Span(MONTHS[0], MONTHS[1]), Span(MONTHS[2], MONTHS[3])


class FakeWorkers:
    """Workers that were started for some queues."""

    def __init__(self, queues: list[str]) -> None:
        self.queues = queues
        self.restarts = 0

    def restart_dead(self) -> None:
        self.restarts += 1


@pytest.fixture
def workers() -> list[FakeWorkers]:
    return []


def fetcher_of(one: InProcessFleet, workers: list[FakeWorkers]) -> FleetFetcher:
    def start(queues: list[str]) -> Any:
        workers.append(FakeWorkers(queues))
        return workers[-1]

    return FleetFetcher(one.services, start)


def end_with(
    monkeypatch: pytest.MonkeyPatch,
    one: InProcessFleet,
    state: State,
    failed: dict[str, str] | None = None,
) -> None:
    """Have each run end so as soon as somebody looks."""

    def follow(services: Any, run: str, restart_dead: Any) -> Progress:
        restart_dead()
        for name, reason in (failed or {}).items():
            one.runs.record(run, Record(Level.FAILED, reason, source=name))
        one.runs.end(run, state)
        progress = one.runs.progress(run)
        assert progress
        return progress

    monkeypatch.setattr(fetcher, "follow", follow)


def test_all_that_is_missing_of_one_kind_and_interval_is_one_request() -> None:
    hours = Series(Market.USD_M, KLINES, Interval.H1, "BTCUSDT")
    nothing = series_of("SOLUSDT")
    minutes, other = group_into_requests(
        {
            series_of(): [JANUARY],
            series_of("ETHUSDT"): [JANUARY, MARCH],
            hours: [MARCH],
            nothing: [],
        }
    )
    assert (minutes.symbols, minutes.interval, minutes.span) == (
        ("BTCUSDT", "ETHUSDT"),
        Interval.M1,
        Span(MONTHS[0], MONTHS[3]),
    )
    assert (other.symbols, other.interval, other.span) == (("BTCUSDT",), Interval.H1, MARCH)


def test_a_request_holds_whole_candles() -> None:
    hours = Series(Market.USD_M, KLINES, Interval.H1, "BTCUSDT")
    (request,) = group_into_requests({hours: [Span(MONTHS[0] + 1, MONTHS[0] + HOUR_MS + 1)]})
    assert request.span == Span(MONTHS[0], MONTHS[0] + 2 * HOUR_MS)


def test_workers_are_started_only_where_something_is_fetched(
    make_fleet: Maker, workers: list[FakeWorkers], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_fleet({"BTCUSDT": BEGAN})
    fleet = fetcher_of(one, workers)
    fleet.trading_span(series_of())
    assert workers == []
    end_with(monkeypatch, one, State.COMPLETE)
    fleet.fetch({series_of(): [JANUARY]})
    (started,) = workers
    assert started.queues == ["plan", "rest.futures", "archive", "compact"]
    assert started.restarts


def test_a_run_that_ends_incomplete_names_what_failed(
    one: InProcessFleet, workers: list[FakeWorkers], monkeypatch: pytest.MonkeyPatch
) -> None:
    end_with(
        monkeypatch,
        one,
        State.INCOMPLETE,
        {f"window {number}": "the exchange is away" for number in range(5)},
    )
    with pytest.raises(
        TaskFailed, match=r"is incomplete: window 0: the exchange is away; .* and 2 more\."
    ):
        fetcher_of(one, workers).fetch({series_of(): [JANUARY]})
    end_with(monkeypatch, one, State.CANCELLED)
    with pytest.raises(TaskFailed, match="is cancelled"):
        fetcher_of(one, workers).fetch({series_of(): [JANUARY]})


def test_ctrl_c_cancels_every_run_that_it_waits_for(
    one: InProcessFleet, workers: list[FakeWorkers], monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(*_: object) -> Progress:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetcher, "follow", follow)
    hours = Series(Market.USD_M, KLINES, Interval.H1, "BTCUSDT")
    with pytest.raises(KeyboardInterrupt):
        fetcher_of(one, workers).fetch({series_of(): [JANUARY], hours: [MARCH]})
    runs = [run.decode() for run in one.services.redis.zrange("klines:runs", 0, -1)]
    assert [Runs(one.services.redis).state(run) for run in runs] == [State.CANCELLED] * 2


def test_a_life_ends_with_the_last_closed_candle(
    one: InProcessFleet, workers: list[FakeWorkers], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = utc_ms(2024, 5, 17) + 13 * HOUR_MS
    monkeypatch.setattr(fetcher, "exchange_ms", lambda *_: now + 9_999)
    hours = Series(Market.USD_M, KLINES, Interval.H1, "BTCUSDT")
    assert fetcher_of(one, workers).trading_span(hours) == Span(BEGAN, now - HOUR_MS)
    monkeypatch.setattr(fetcher, "exchange_ms", lambda *_: now + 10_000)
    assert fetcher_of(one, workers).trading_span(hours) == Span(BEGAN, now)


def test_a_symbol_that_nobody_knows_is_told_with_its_like(
    one: InProcessFleet, workers: list[FakeWorkers]
) -> None:
    with pytest.raises(UnknownSymbol, match=r"no symbol BTCUSDTT \(did you mean BTCUSDT\?\)"):
        fetcher_of(one, workers).trading_span(series_of("BTCUSDTT"))


def test_without_workers_nothing_is_queued(one: InProcessFleet) -> None:
    with pytest.raises(RequestError, match="no worker serves plan"):
        FleetFetcher(one.services).fetch({series_of(): [JANUARY]})
    assert one.runs.active() == []

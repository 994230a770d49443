"""Requests survive the way through Redis, and know what they cost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.tasks.requests.request import Request
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.timestamps import MINUTE_MS, utc_ms
from tests.unit.helpers.strategies import intervals, symbols

D = Interval.D1


some_request = st.builds(
    Request,
    st.sampled_from(Market),
    st.just(KLINES),
    intervals.filter(lambda i: i is not Interval.S1),
    st.lists(symbols, min_size=1, max_size=4).map(tuple),
    st.integers(utc_ms(2023), utc_ms(2024)),
    st.integers(utc_ms(2024) + MINUTE_MS, utc_ms(2024, 3)),
)


@settings(max_examples=50, deadline=None)
@given(some_request)
def test_a_request_survives_the_way_through_redis(request: Request) -> None:
    assert Request.from_json(request.to_json()) == request
    assert Request.from_json(request.to_json().encode()) == request


@settings(max_examples=50, deadline=None)
@given(some_request)
def test_a_request_knows_what_one_symbol_costs(request: Request) -> None:
    from klinefleet.workers.domain.paging import pages

    series = next(request.series())
    calls = [
        page
        for partition in series.partitions(request.span)
        for page in pages(series, partition.span.clip(request.span))
    ]
    assert request.calls_per_symbol() == len(calls)
    assert request.call_weight() >= 1


def test_series_are_those_of_the_symbols_from_an_index_on() -> None:
    request = Request(Market.SPOT, KLINES, D, ("A", "B", "C"), 0, 1)
    assert [s.symbol for s in request.series()] == ["A", "B", "C"]
    assert [s.symbol for s in request.series(first=2)] == ["C"]

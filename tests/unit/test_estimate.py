from __future__ import annotations

import math
from pathlib import Path

import pytest
from redis import Redis

from tasks.estimate import Estimate, estimate
from tasks.request import Request
from tests.unit.crew import Crew, crew, series_of
from tests.unit.klines import frame, opens
from workers.model import Interval, Kind, Market, Span, utc_ms

BEGAN = utc_ms(2019)
YEAR = Span(utc_ms(2024), utc_ms(2025))
JANUARY = Span(utc_ms(2024), utc_ms(2024, 2))


def request(
    *symbols: str, interval: Interval = Interval.M1, span: Span = YEAR, market: Market = Market.USD_M
) -> Request:
    return Request(market, Kind.KLINES, interval, symbols or ("BTCUSDT",), span.start_ms, span.end_ms)


@pytest.fixture
def few(redis: Redis, tmp_path: Path) -> Crew:
    return crew(redis, tmp_path, {"BTCUSDT": BEGAN, "NEWUSDT": utc_ms(2024, 11, 5)})


def test_a_year_of_minutes_is_counted_month_by_month(few: Crew) -> None:
    told = estimate(few.tools, request())
    days = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    calls = [math.ceil(d * 1440 / 499) for d in days]
    assert (told.klines, told.calls, told.weight) == (366 * 1440, sum(calls), 2 * sum(calls))
    assert told.windows == sum(math.ceil(c / 9) for c in calls)
    assert (told.symbols, told.limit) == (1, 2400)
    assert told.minutes == pytest.approx(2 * sum(calls) / 2400)


def test_what_is_held_in_the_lake_or_in_the_raw_zone_is_not_counted(few: Crew) -> None:
    series = series_of()
    few.tools.partitions.merge(series, "2024-01", frame([]), [JANUARY])
    february = Span(utc_ms(2024, 2), utc_ms(2024, 3))
    few.tools.raw.store(series.block(february.start_ms), february, [b"[]"])
    told = estimate(few.tools, request())
    assert told.klines == (366 - 31 - 29) * 1440


def test_a_request_of_which_all_is_held_costs_nothing(few: Crew) -> None:
    few.tools.partitions.merge(series_of(), "2024-01", frame([]), [JANUARY])
    told = estimate(few.tools, request(span=JANUARY))
    assert (told.klines, told.windows, told.calls, told.weight, told.minutes) == (0, 0, 0, 0, 0)


def test_months_before_a_symbol_was_listed_are_not_counted(few: Crew) -> None:
    told = estimate(few.tools, request("NEWUSDT"))
    assert told.klines == (30 + 31) * 1440


def test_an_estimate_asks_the_exchange_nothing(redis: Redis, tmp_path: Path) -> None:
    spot = crew(redis, tmp_path, {"BTCUSDT": BEGAN}, market=Market.SPOT)
    told = estimate(spot.tools, request(span=JANUARY, market=Market.SPOT))
    assert (told.calls, told.weight) == (45, 90)
    assert spot.client.asked == []


def test_small_pages_are_counted_with_their_small_weight(few: Crew) -> None:
    told = estimate(few.tools, request(span=Span(JANUARY.start_ms, JANUARY.start_ms + 60 * 60_000)))
    assert (told.klines, told.calls, told.weight) == (60, 1, 1)


def test_a_share_of_the_budget_takes_as_much_longer(redis: Redis, tmp_path: Path) -> None:
    half = crew(redis, tmp_path, {"BTCUSDT": BEGAN})
    object.__setattr__(half.tools.settings, "weight_share", 0.5)
    assert estimate(half.tools, request()).limit == 1200


def test_an_estimate_makes_the_calls_that_are_then_made(few: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    few.patch(monkeypatch)
    span = Span(utc_ms(2024, 1, 20), utc_ms(2024, 3, 10))
    few.tools.partitions.merge(series_of(), "2024-02", frame([]), [Span(utc_ms(2024, 2, 3), utc_ms(2024, 2, 9))])
    told = estimate(few.tools, request(span=span))
    few.planner(few.begin(request(span=span)))._issue(
        few.planner(few.begin(request(span=span)))._wanted(request(span=span))
    )
    assert len(few.issued) == told.windows
    assert sum(w.block.series.interval.opens(w.span.start_ms, w.span.end_ms) for w in few.issued) == told.klines
    assert told.klines == len(opens(span)) - 6 * 1440


def test_an_estimate_is_told_in_one_line_and_as_plain_values() -> None:
    told = Estimate(symbols=2, klines=1_000_000, windows=224, calls=2005, weight=4010, limit=2400)
    assert told.text() == (
        "would fetch at most 1,000,000 klines of 2 symbols: 2,005 requests in 224 windows, weight 4,010, "
        "1.7 minutes of the budget (2,400 a minute)"
    )
    assert told.facts() == {
        "symbols": 2,
        "klines": 1_000_000,
        "windows": 224,
        "requests": 2005,
        "weight": 4010,
        "minutes": 1.67,
    }

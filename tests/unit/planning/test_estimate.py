from __future__ import annotations

import math
from pathlib import Path

import pytest
from redis import Redis

from klinefleet.tasks.planning.estimate import estimate
from klinefleet.tasks.requests.request import Request
from klinefleet.workers.domain.errors import Restricted
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from tests.answers import ASKED_MS, confirming
from tests.unit.helpers.in_process_fleet import InProcessFleet, in_process_fleet, series_of
from tests.unit.helpers.klines import frame, opens

BEGAN = utc_ms(2019)
YEAR = Span(utc_ms(2024), utc_ms(2025))
JANUARY = Span(utc_ms(2024), utc_ms(2024, 2))


def request(
    *symbols: str,
    interval: Interval = Interval.M1,
    span: Span = YEAR,
    market: Market = Market.USD_M,
) -> Request:
    return Request(market, KLINES, interval, symbols or ("BTCUSDT",), span.start_ms, span.end_ms)


@pytest.fixture
def few(redis: Redis, tmp_path: Path) -> InProcessFleet:
    return in_process_fleet(redis, tmp_path, {"BTCUSDT": BEGAN, "NEWUSDT": utc_ms(2024, 11, 5)})


def test_a_year_of_minutes_is_counted_month_by_month(few: InProcessFleet) -> None:
    told = estimate(few.services, request())
    days = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    calls = [math.ceil(d * 1440 / 499) for d in days]
    assert (told.counts["klines"], told.counts["requests"]) == (366 * 1440, sum(calls))
    assert told.counts["weight"] == 2 * sum(calls)
    assert told.counts["windows"] == sum(math.ceil(c / 9) for c in calls)
    assert (told.symbols, told.limit) == (1, 2400)
    assert told.minutes == pytest.approx(2 * sum(calls) / 2400)


def test_what_is_held_in_the_lake_or_in_the_raw_zone_is_not_counted(few: InProcessFleet) -> None:
    series = series_of()
    few.services.partitions.merge(Partition(series, "2024-01"), frame([]), confirming(JANUARY))
    february = Span(utc_ms(2024, 2), utc_ms(2024, 3))
    few.services.raw_zone.store(
        series.partition(february.start_ms), february, [b"[]"], asked_ms=ASKED_MS
    )
    told = estimate(few.services, request())
    assert told.counts["klines"] == (366 - 31 - 29) * 1440


def test_a_request_of_which_all_is_held_costs_nothing(few: InProcessFleet) -> None:
    few.services.partitions.merge(Partition(series_of(), "2024-01"), frame([]), confirming(JANUARY))
    told = estimate(few.services, request(span=JANUARY))
    assert (+told.counts, told.minutes) == ({}, 0)
    assert told.facts()["why"] == "nothing is missing"


def test_time_before_a_symbol_was_listed_is_not_counted(few: InProcessFleet) -> None:
    told = estimate(few.services, request("NEWUSDT"))
    assert told.counts["klines"] == (26 + 31) * 1440


def test_an_estimate_asks_the_exchange_nothing(redis: Redis, tmp_path: Path) -> None:
    spot = in_process_fleet(redis, tmp_path, {"BTCUSDT": BEGAN}, market=Market.SPOT)
    told = estimate(spot.services, request(span=JANUARY, market=Market.SPOT))
    assert (told.counts["requests"], told.counts["weight"]) == (45, 90)
    assert spot.client.asked == []


def test_small_pages_are_counted_with_their_small_weight(few: InProcessFleet) -> None:
    told = estimate(
        few.services, request(span=Span(JANUARY.start_ms, JANUARY.start_ms + 60 * 60_000))
    )
    assert (told.counts["klines"], told.counts["requests"], told.counts["weight"]) == (60, 1, 1)


def test_a_share_of_the_budget_takes_as_much_longer(redis: Redis, tmp_path: Path) -> None:
    half = in_process_fleet(redis, tmp_path, {"BTCUSDT": BEGAN})
    object.__setattr__(half.services.settings, "weight_share", 0.5)
    assert estimate(half.services, request()).limit == 1200


def test_an_estimate_makes_the_calls_that_are_then_made(
    few: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    few.patch(monkeypatch)
    span = Span(utc_ms(2024, 1, 20), utc_ms(2024, 3, 10))
    week = Span(utc_ms(2024, 2, 3), utc_ms(2024, 2, 9))
    few.services.partitions.merge(Partition(series_of(), "2024-02"), frame([]), confirming(week))
    told = estimate(few.services, request(span=span))
    few.planner(few.begin(request(span=span))).issue()
    assert len(few.issued) == told.counts["windows"]
    opened = [w.partition.series.interval.opens(w.span.start_ms, w.span.end_ms) for w in few.issued]
    assert sum(opened) == told.counts["klines"] == len(opens(span)) - 6 * 1440


def test_an_estimate_says_files_calls_weight_bytes_minutes_and_why(few: InProcessFleet) -> None:
    for month in range(1, 12):
        few.archive.publish(series_of(), f"2024-{month:02}")
    told = estimate(few.services, request())
    december = math.ceil(31 * 1440 / 499)
    assert (told.counts["monthly_files"], told.counts["requests"]) == (11, december)
    assert told.facts()["weight"] == 2 * december
    assert told.facts()["bytes"] > 0
    assert "files cost no weight" in told.facts()["why"]
    assert "BTCUSDT-1m-2024-12.zip is absent: REST instead" in told.text()
    assert (
        f"11 monthly and 0 daily files, no weight\n  REST      {december} requests" in told.text()
    )


def test_an_estimate_says_that_the_archive_does_not_answer(few: InProcessFleet) -> None:
    few.archive.fault = Restricted("451")
    told = estimate(few.services, request())
    assert told.counts["files"] == 0
    assert (
        "the archive could not be listed (Restricted: 451), so REST is used for all" in told.text()
    )


def test_a_lake_that_lacks_the_last_days_alone_asks_the_archive_for_no_list(
    redis: Redis, tmp_path: Path
) -> None:
    """Many series of which REST has the rest in a moment: two lists for each would take longer."""
    symbols = [f"S{n:02}USDT" for n in range(40)]
    one = in_process_fleet(redis, tmp_path, dict.fromkeys(symbols, BEGAN))
    for symbol in symbols:
        one.services.partitions.merge(
            Partition(series_of(symbol), "2024-01"), frame([]), confirming(JANUARY)
        )
    told = estimate(one.services, request(*symbols, span=Span(utc_ms(2024), utc_ms(2024, 2, 3))))
    assert told.counts["requests"] == 40 * math.ceil(2 * 1440 / 499)
    assert one.archive.asked == []

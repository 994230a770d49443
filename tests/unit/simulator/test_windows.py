from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.simulator.markets import RULES, Bands, Market, klines_weight
from deploy.simulator.moments import DAY_MS, HOUR_MS, MINUTE_MS, utc_ms
from deploy.simulator.refusals import Refusal
from deploy.simulator.source import Generated
from deploy.simulator.windows import read_question, window

NOW_MS = utc_ms("2026-11-21 01:00:30")
JUNE_MS = utc_ms("2024-06-01 00:00")
SYMBOLS = {Market.SPOT: "BTCUSDT", Market.USD_M: "BTCUSDT", Market.COIN_M: "BTCUSD_PERP"}
FUTURES = [Market.USD_M, Market.COIN_M]
OLDEST_FIRST = [Market.SPOT, Market.USD_M]
SOURCE = Generated(symbols=30)


def ask(market: Market, now_ms: int = NOW_MS, **query: object) -> list[list[Any]]:
    rules = RULES[market]
    sent = {"symbol": SYMBOLS[market], "interval": "1m"} | {
        name: str(value) for name, value in query.items()
    }
    question = read_question(
        rules, {name: value for name, value in sent.items() if value != "None"}
    )
    wanted = window(rules, question, now_ms)
    page = SOURCE.page(market, question.symbol, question.interval, wanted, now_ms=now_ms)
    rows: list[list[Any]] = json.loads(page.body)
    assert len(rows) == page.rows
    return rows


def opens(rows: list[list[Any]]) -> list[int]:
    return [row[0] for row in rows]


def refused(market: Market, **query: object) -> tuple[int, int]:
    with pytest.raises(Refusal) as caught:
        ask(market, **query)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("market", list(Market))
def test_both_ends_are_inclusive_and_meet_the_open_time(market: Market) -> None:
    rows = ask(market, startTime=JUNE_MS, endTime=JUNE_MS + 2 * MINUTE_MS)
    assert opens(rows) == [JUNE_MS, JUNE_MS + MINUTE_MS, JUNE_MS + 2 * MINUTE_MS]
    rows = ask(market, startTime=JUNE_MS + 1, endTime=JUNE_MS + 2 * MINUTE_MS - 1)
    assert opens(rows) == [JUNE_MS + MINUTE_MS]


@pytest.mark.parametrize("market", list(Market))
def test_rows_look_like_the_exchange_s(market: Market) -> None:
    (row,) = ask(market, startTime=JUNE_MS, endTime=JUNE_MS)
    assert len(row) == 12
    assert [type(field) for field in row] == [
        int,
        str,
        str,
        str,
        str,
        str,
        int,
        str,
        int,
        str,
        str,
        str,
    ]
    assert row[6] == JUNE_MS + MINUTE_MS - 1
    assert row[11] == "0"
    open_, high, low, close = map(float, row[1:5])
    assert low <= min(open_, close) <= max(open_, close) <= high
    assert float(row[9]) <= float(row[5])
    assert float(row[10]) <= float(row[7])


@pytest.mark.parametrize("market", OLDEST_FIRST)
def test_a_long_window_is_answered_from_its_start(market: Market) -> None:
    rows = ask(market, startTime=JUNE_MS, endTime=JUNE_MS + DAY_MS, limit=10)
    assert opens(rows) == [JUNE_MS + n * MINUTE_MS for n in range(10)]


def test_a_long_window_is_answered_from_its_end_on_coin_m_but_still_ascending() -> None:
    end_ms = JUNE_MS + DAY_MS
    rows = ask(Market.COIN_M, startTime=JUNE_MS, endTime=end_ms, limit=3)
    assert opens(rows) == [end_ms - 2 * MINUTE_MS, end_ms - MINUTE_MS, end_ms]


@pytest.mark.parametrize("market", OLDEST_FIRST)
def test_a_start_alone_gives_the_oldest_rows(market: Market) -> None:
    assert opens(ask(market, startTime=JUNE_MS, limit=2)) == [JUNE_MS, JUNE_MS + MINUTE_MS]


def test_a_start_alone_reaches_200_days_on_coin_m_and_gives_their_newest_rows() -> None:
    end_ms = JUNE_MS + 200 * DAY_MS
    assert opens(ask(Market.COIN_M, startTime=JUNE_MS, limit=2)) == [end_ms - MINUTE_MS, end_ms]
    assert opens(ask(Market.COIN_M, startTime=NOW_MS - DAY_MS, limit=1)) == [
        NOW_MS - NOW_MS % MINUTE_MS
    ]


@pytest.mark.parametrize("market", list(Market))
def test_an_end_alone_gives_the_newest_rows_before_it(market: Market) -> None:
    assert opens(ask(market, endTime=JUNE_MS, limit=2)) == [JUNE_MS - MINUTE_MS, JUNE_MS]


def test_an_end_alone_reaches_back_200_days_on_coin_m() -> None:
    rows = ask(Market.COIN_M, endTime=JUNE_MS, interval="1d")
    assert len(rows) == 201
    assert rows[0][0] == JUNE_MS - 200 * DAY_MS


@pytest.mark.parametrize("market", list(Market))
def test_neither_end_gives_the_newest_rows_with_the_open_candle_last(market: Market) -> None:
    rows = ask(market)
    assert len(rows) == 500
    assert rows[-1][0] == NOW_MS - 30_000
    assert rows[-1][6] >= NOW_MS


@pytest.mark.parametrize("market", list(Market))
def test_the_open_candle_differs_from_what_it_closes_with(market: Market) -> None:
    open_ms = NOW_MS - 30_000
    (forming,) = ask(market, startTime=open_ms, endTime=open_ms)
    (final,) = ask(market, now_ms=NOW_MS + MINUTE_MS, startTime=open_ms, endTime=open_ms)
    assert forming[:2] == final[:2]
    assert forming[6] == final[6]
    assert float(forming[5]) < float(final[5])
    assert forming[8] < final[8]
    assert float(forming[3]) <= float(forming[4]) <= float(forming[2])


@pytest.mark.parametrize("market", list(Market))
def test_a_candle_is_final_only_after_its_close_time(market: Market) -> None:
    open_ms = JUNE_MS
    at_close = ask(market, now_ms=open_ms + MINUTE_MS - 1, startTime=open_ms, endTime=open_ms)
    after = ask(market, now_ms=open_ms + MINUTE_MS, startTime=open_ms, endTime=open_ms)
    much_later = ask(market, startTime=open_ms, endTime=open_ms)
    assert at_close != after == much_later


@pytest.mark.parametrize("market", list(Market))
def test_an_empty_window_is_no_error(market: Market) -> None:
    assert (
        ask(market, startTime=utc_ms("2017-03-01 00:00"), endTime=utc_ms("2017-03-02 00:00")) == []
    )
    assert ask(market, startTime=NOW_MS + HOUR_MS, endTime=NOW_MS + 2 * HOUR_MS) == []


@pytest.mark.parametrize("market", OLDEST_FIRST)
def test_from_time_zero_the_first_candle_ever_is_found(market: Market) -> None:
    first = {Market.SPOT: utc_ms("2017-08-17 04:00"), Market.USD_M: 1_567_965_300_000}
    assert opens(ask(market, startTime=0, limit=1)) == [first[market]]


def test_start_after_end_is_an_error_on_futures_and_nothing_on_spot() -> None:
    assert ask(Market.SPOT, startTime=JUNE_MS + 1, endTime=JUNE_MS) == []
    for market in FUTURES:
        assert refused(market, startTime=JUNE_MS + 1, endTime=JUNE_MS) == (400, -1023)


def test_coin_m_refuses_more_than_200_days() -> None:
    end_ms = JUNE_MS + 200 * DAY_MS
    assert ask(Market.COIN_M, startTime=JUNE_MS, endTime=end_ms, limit=1)
    assert refused(Market.COIN_M, startTime=JUNE_MS, endTime=end_ms + 1) == (400, -4088)
    assert ask(Market.USD_M, startTime=JUNE_MS, endTime=end_ms + 1, limit=1)


def test_spot_caps_the_limit_and_futures_refuse_it() -> None:
    assert len(ask(Market.SPOT, startTime=JUNE_MS, limit=5_000)) == 1_000
    for market in FUTURES:
        assert (
            len(ask(market, startTime=JUNE_MS, endTime=JUNE_MS + 10 * DAY_MS, limit=1_500)) == 1_500
        )
        assert refused(market, limit=1_501) == (400, -1130)


def test_spot_takes_microseconds() -> None:
    assert ask(Market.SPOT, startTime=JUNE_MS * 1_000, limit=3) == ask(
        Market.SPOT, startTime=JUNE_MS, limit=3
    )


def test_futures_take_lower_case_symbols_and_spot_does_not() -> None:
    assert ask(Market.USD_M, symbol="btcusdt", startTime=JUNE_MS, limit=1)
    assert refused(Market.SPOT, symbol="btcusdt") == (400, -1100)


@pytest.mark.parametrize("market", list(Market))
def test_wrong_parameters_earn_the_exchange_s_codes(market: Market) -> None:
    assert refused(market, symbol=None) == (400, -1102)
    assert refused(market, interval=None) == (400, -1102)
    assert refused(market, symbol="NOSUCHUSDT") == (400, -1121)
    assert refused(market, interval="1") == (400, -1120)
    assert refused(market, interval="1H") == (400, -1120)
    assert refused(market, startTime="yesterday") == (400, -1100)
    assert refused(market, endTime="-1") == (400, -1100)
    assert refused(market, limit="1e3") == (400, -1100)
    assert refused(market, limit=0) == (400, -1130)


def test_seconds_exist_on_spot_only() -> None:
    rows = ask(Market.SPOT, interval="1s", startTime=JUNE_MS, limit=3)
    assert opens(rows) == [JUNE_MS, JUNE_MS + 1_000, JUNE_MS + 2_000]
    for market in FUTURES:
        assert refused(market, interval="1s") == (400, -1120)


def test_calendar_intervals_open_where_the_calendar_says() -> None:
    start_ms = utc_ms("2024-01-01 00:00")
    assert opens(ask(Market.SPOT, interval="1M", startTime=start_ms, limit=3)) == [
        start_ms,
        utc_ms("2024-02-01 00:00"),
        utc_ms("2024-03-01 00:00"),
    ]
    (month,) = ask(Market.SPOT, interval="1M", startTime=utc_ms("2024-02-01 00:00"), limit=1)
    assert month[6] == utc_ms("2024-03-01 00:00") - 1
    (week,) = ask(Market.USD_M, interval="1w", startTime=start_ms, limit=1)
    assert week[0] == start_ms, "1 January 2024 was a Monday"
    (three_days,) = ask(Market.USD_M, interval="3d", startTime=start_ms, limit=1)
    assert three_days[0] % (3 * DAY_MS) == 0


@pytest.mark.parametrize(
    ("bands", "weights"),
    [
        (
            Bands.MEASURED,
            {
                1: 1,
                99: 1,
                100: 1,
                101: 2,
                499: 2,
                500: 2,
                501: 5,
                1000: 5,
                1001: 10,
                1500: 10,
                1501: 10,
            },
        ),
        (
            Bands.DOCUMENTED,
            {1: 1, 99: 1, 100: 2, 499: 2, 500: 5, 501: 5, 1000: 5, 1001: 10, 1500: 10, 1501: 10},
        ),
    ],
)
def test_futures_cost_by_limit(bands: Bands, weights: dict[int, int]) -> None:
    for market in FUTURES:
        assert {limit: klines_weight(market, str(limit), bands) for limit in weights} == weights
        assert klines_weight(market, None, bands) == klines_weight(market, "abc", bands) == 5
    assert {klines_weight(Market.SPOT, limit, bands) for limit in (None, "1", "1000", "9999")} == {
        2
    }

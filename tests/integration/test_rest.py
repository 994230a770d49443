"""The REST client over HTTP: every row that was asked for, and what is told beside rows."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from klinefleet.workers.binance.calls.session import pooled_session
from klinefleet.workers.binance.decode import decode_pages
from klinefleet.workers.binance.page_check import inspect
from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.domain.errors import BadAnswer, Refused, ServerFault, Transient
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.kinds.premium_index_klines import PREMIUM_INDEX_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.paging import Page, pages
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, HOUR_MS, utc_ms
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.support.clock import WallClock
from tests.expected import truth_frame
from tests.integration.odd_answers import GOOD, answering, dated
from tests.integration.rest_client import (
    CLOCK_MS,
    PAGE,
    SYMBOLS,
    Maker,
    Stopwatch,
    ask,
    series,
    state,
)
from tests.servers import Exchange
from tests.unit.helpers.klines import JANUARY_MS, opens


@pytest.mark.parametrize("market", Market)
def test_a_page_comes_as_asked_for_and_the_budget_learns_from_it(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget], market: Market
) -> None:
    one = client(exchange.url, market)
    watch = Stopwatch()
    answer = one.rows(series(market), PAGE)
    took_ms = watch.ms
    assert len(json.loads(answer.body)) == 60
    assert inspect(answer.body, PAGE, series(market), answer.server_ms).rows == 60
    assert answer.server_ms
    assert answer.server_ms % 1000 == 0
    told = state(budgets, market)
    assert told.used == (2 if market is Market.SPOT else 1)
    assert told.rtt_ms is not None
    assert told.offset_ms is not None
    assert abs(told.offset_ms) < CLOCK_MS + took_ms
    [call] = exchange.calls()
    assert -1_000 < answer.server_ms - call["at_ms"] <= took_ms
    span = PAGE.span
    assert (call["start"], call["end"], call["limit"]) == (
        str(span.start_ms),
        str(span.end_ms - 1),
        "60",
    )


@pytest.mark.parametrize("market", Market)
def test_exchange_info_tells_limit_and_symbols_in_each_markets_shape(
    exchange: Exchange, client: Maker, market: Market
) -> None:
    info = client(exchange.url, market).exchange_info()
    assert info.limit == (6000 if market is Market.SPOT else 2400)
    listings = {listing.symbol: listing for listing in info.listings}
    assert listings[SYMBOLS[market]].status == "TRADING"
    if market is Market.SPOT:
        assert listings["BCCUSDT"].status == "BREAK"
        assert {(one.onboard_ms, one.delivery_ms) for one in info.listings} == {(None, None)}
        assert "币安人生USDT" in listings
    if market is Market.USD_M:
        assert listings["BTCUSDT"].onboard_ms == 1_567_965_300_000
        assert listings["OMGUSDT"].delivery_ms == 1_738_314_000_000
    if market is Market.COIN_M:
        assert listings["BTCUSD_PERP"].onboard_ms == 1_597_042_800_000


def test_exchange_info_is_charged_what_the_market_asks_for_it(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    for market, weight in ((Market.SPOT, 20), (Market.USD_M, 1)):
        client(exchange.url, market).exchange_info()
        assert state(budgets, market).used == weight


@pytest.mark.parametrize("market", Market)
def test_the_exchanges_clock_is_told_and_noted_for_a_weight_of_one(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget], market: Market
) -> None:
    watch = Stopwatch()
    told_ms = client(exchange.url, market).time_ms()
    assert abs(told_ms - WallClock().now_ms()) <= CLOCK_MS + watch.ms
    assert state(budgets, market).used == 1
    assert state(budgets, market).offset_at_ms is not None


@pytest.mark.parametrize("body", [b"{}", b'{"serverTime":null}', b'{"serverTime":"soon"}', b"[]"])
def test_an_answer_without_a_time_is_no_time(client: Maker, body: bytes) -> None:
    with answering((200, dated(), body)) as (url, _), pytest.raises(BadAnswer):
        client(url).time_ms()


@pytest.mark.parametrize(
    ("market", "symbol", "interval", "first_ms"),
    [
        (Market.SPOT, "BTCUSDT", Interval.M1, utc_ms(2017, 8, 17) + 4 * HOUR_MS),
        (Market.SPOT, "币安人生USDT", Interval.H1, utc_ms(2026, 1, 7) + 12 * HOUR_MS),
        (Market.USD_M, "BTCUSDT", Interval.D1, utc_ms(2019, 9, 8)),
    ],
)
def test_the_first_candle_ever_is_told(
    exchange: Exchange,
    client: Maker,
    market: Market,
    symbol: str,
    interval: Interval,
    first_ms: int,
) -> None:
    assert (
        client(exchange.url, market).first_open_ms(Series(market, KLINES, interval, symbol))
        == first_ms
    )


@pytest.mark.parametrize(
    ("market", "kind", "interval", "symbol", "route", "first_ms"),
    [
        (
            Market.USD_M,
            FUNDING_RATE,
            Interval.EVENTS,
            "BTCUSDT",
            "klines",
            utc_ms(2019, 9, 8) + 18 * HOUR_MS,
        ),
        (
            Market.USD_M,
            INDEX_PRICE_KLINES,
            Interval.M1,
            "BTCUSDT",
            "indexPriceKlines",
            utc_ms(2019, 9, 8),
        ),
        (
            Market.USD_M,
            MARK_PRICE_KLINES,
            Interval.H1,
            "BTCUSDT",
            "markPriceKlines",
            utc_ms(2019, 9, 8),
        ),
        (Market.COIN_M, KLINES, Interval.M1, "BTCUSD_PERP", "klines", utc_ms(2020, 8, 10)),
        (
            Market.COIN_M,
            INDEX_PRICE_KLINES,
            Interval.MO1,
            "BTCUSD",
            "indexPriceKlines",
            utc_ms(2020, 8, 10),
        ),
        (
            Market.COIN_M,
            PREMIUM_INDEX_KLINES,
            Interval.M1,
            "BTCUSD_PERP",
            "premiumIndexKlines",
            utc_ms(2020, 8, 10),
        ),
        (
            Market.COIN_M,
            FUNDING_RATE,
            Interval.EVENTS,
            "BTCUSD_PERP",
            "klines",
            utc_ms(2020, 8, 10),
        ),
    ],
)
def test_the_first_candle_of_every_kind_is_told_to_the_day_and_never_too_late(
    exchange: Exchange,
    client: Maker,
    market: Market,
    kind: Kind,
    interval: Interval,
    symbol: str,
    route: str,
    first_ms: int,
) -> None:
    told = client(exchange.url, market).first_open_ms(Series(market, kind, interval, symbol))
    assert told is not None
    assert 0 <= first_ms - told < DAY_MS
    calls = exchange.calls()
    assert {(call["kind"], call["symbol"], call["status"]) for call in calls} == {
        (route, symbol, 200)
    }
    assert len(calls) <= 12


def rows_of(one: RestClient, asked: Series, span: Span) -> list[int]:
    """Open times of all pages of a span, as the fetch task would keep them."""
    got = []
    for page in pages(asked, span):
        answer = one.rows(asked, page)
        inspect(answer.body, page, asked, answer.server_ms)
        got.append(answer.body)
    return decode_pages(KLINES, got)["open_time"].dt.timestamp("ms").to_list()


@pytest.mark.parametrize(
    ("interval", "span"),
    [
        (Interval.M1, Span(utc_ms(2024, 2), utc_ms(2024, 3))),
        (Interval.D1, Span(utc_ms(2021), utc_ms(2024))),
        (Interval.H12, Span(utc_ms(2022), utc_ms(2023))),
        (Interval.W1, Span(utc_ms(2021, 1, 4), utc_ms(2024))),
        (Interval.MO1, Span(utc_ms(2021), utc_ms(2024))),
    ],
    ids=[
        "a month of minutes",
        "three years of days",
        "a year of half days",
        "three years of weeks",
        "months",
    ],
)
def test_coin_m_pages_bring_every_row_though_it_answers_the_newest_first(
    exchange: Exchange, client: Maker, interval: Interval, span: Span
) -> None:
    asked = series(Market.COIN_M, interval)
    got = rows_of(client(exchange.url, Market.COIN_M), asked, span)
    truth = truth_frame("cm", asked.symbol, str(interval), span.start_ms, span.end_ms)
    assert got == truth["open_time"].dt.timestamp("ms").to_list()
    assert len(got) == interval.opens(span.start_ms, span.end_ms)


@pytest.mark.parametrize("days", [199, 200, 201, 400])
def test_coin_m_days_are_complete_on_both_sides_of_200(
    exchange: Exchange, client: Maker, days: int
) -> None:
    asked = series(Market.COIN_M, Interval.D1)
    span = Span(utc_ms(2023), utc_ms(2023) + days * DAY_MS)
    assert rows_of(client(exchange.url, Market.COIN_M), asked, span) == list(opens(span, DAY_MS))


def test_coin_m_weeks_of_a_years_partition_are_never_refused(
    exchange: Exchange, client: Maker
) -> None:
    asked = series(Market.COIN_M, Interval.W1)
    assert (
        len(
            rows_of(
                client(exchange.url, Market.COIN_M), asked, Span(utc_ms(2025), utc_ms(2025, 7, 21))
            )
        )
        == 28
    )


def test_calls_go_out_by_the_address_they_are_told_to(exchange: Exchange, client: Maker) -> None:
    with pooled_session(2, "127.0.0.2") as session:
        ask(client(exchange.url, session=session))
    ask(client(exchange.url))
    assert sorted(minute["address"] for minute in exchange.books()["minutes"]) == [
        "127.0.0.1",
        "127.0.0.2",
    ]


def test_connections_are_kept_alive_and_used_again(client: Maker) -> None:
    with answering(
        (200, dated(), GOOD), (400, dated(), b"{}"), (500, dated(), b""), (200, dated(), GOOD)
    ) as (
        url,
        server,
    ):
        one = client(url)
        ask(one)
        for failure in (Refused, ServerFault):
            with pytest.raises(failure):
                ask(one)
        for _ in range(5):
            ask(one)
        assert server.connections == 1


def test_a_kept_connection_that_the_exchange_has_closed_costs_no_answer(client: Maker) -> None:
    with answering((200, dated(), GOOD)) as (url, server):
        one = client(url)
        ask(one)
        server.close_connection = True
        assert ask(one) == GOOD


def test_symbols_of_any_script_reach_the_exchange_as_they_are(
    exchange: Exchange, client: Maker
) -> None:
    asked = Series(Market.USD_M, KLINES, Interval.M1, "币安人生USDT")
    at = utc_ms(2026, 1)
    answer = client(exchange.url).rows(asked, Page(Span(at, at + HOUR_MS), 60, 1))
    assert len(json.loads(answer.body)) == 60
    assert exchange.calls()[-1]["symbol"] == "币安人生USDT"


def test_a_call_is_not_sent_without_weight(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    one = client(exchange.url)
    ask(one)
    budgets(Market.USD_M).close_until(after_ms=3_600_000)
    with pytest.raises(Transient, match="the call was not sent"):
        ask(one)
    assert len(exchange.calls()) == 1


def test_january_is_where_the_tests_think_it_is() -> None:
    assert utc_ms(2024, 1) == JANUARY_MS

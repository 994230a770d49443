"""The REST client over HTTP: one error per status, what the budget learns of each, and every row that was asked for."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from redis import Redis

from tests.harness import Exchange, truth_frame, until
from tests.unit.klines import JANUARY_MS, body, minutes, opens
from workers.binance.decode import decode_pages
from workers.binance.markets import RULES, Page, pages
from workers.binance.pages import inspect
from workers.binance.rest import RestClient, pooled_session
from workers.errors import (
    BadAnswer,
    Banned,
    Firewalled,
    FleetError,
    Refused,
    Restricted,
    ServerFault,
    TooManyRequests,
    Transient,
    Unreachable,
)
from workers.limits import Patience, PoolState, RedisBudget
from workers.model import DAY_MS, HOUR_MS, Interval, Kind, Market, Series, Span, utc_ms

SYMBOLS = {Market.SPOT: "BTCUSDT", Market.USD_M: "BTCUSDT", Market.COIN_M: "BTCUSD_PERP"}
PAGE = Page(minutes(0, 60), 60, 1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("exchange"), "--symbols", "30") as exchange:
        yield exchange


@pytest.fixture
def exchange(running: Exchange) -> Iterator[Exchange]:
    """The stand-in exchange of this module, with new books and no faults."""
    for path in ("books", "calls"):
        running.ask("DELETE", path)
    yield running
    running.faults({})


Maker = Callable[..., RestClient]


@pytest.fixture
def budgets(redis: Redis) -> Callable[[Market], RedisBudget]:
    """Make a pool's budget, away from a minute's edge: there an answer may count for the minute before."""
    until("the middle of a minute", lambda: 2 < time.time() % 60 < 50)

    def make(market: Market) -> RedisBudget:
        budget = RedisBudget(redis, RULES[market].pool, "test")
        budget.set_limit(2400)
        return budget

    return make


@pytest.fixture
def client(budgets: Callable[[Market], RedisBudget]) -> Iterator[Maker]:
    """Make a client that waits a minute at most for weight."""
    with pooled_session(4) as session:

        def make(url: str, market: Market = Market.USD_M, **how: Any) -> RestClient:
            how = {"session": session, "timeout_s": 5.0} | how
            return RestClient(market, url, budget=lambda _: budgets(market), patience=Patience(longest_s=60), **how)

        yield make


def series(market: Market = Market.USD_M, interval: Interval = Interval.M1) -> Series:
    return Series(market, Kind.KLINES, interval, SYMBOLS[market])


def ask(client: RestClient, market: Market = Market.USD_M, page: Page = PAGE) -> bytes:
    return client.rows(series(market), page).body


def state(budgets: Callable[[Market], RedisBudget], market: Market = Market.USD_M) -> PoolState:
    return budgets(market).state()


@pytest.mark.parametrize("market", Market)
def test_a_page_comes_as_asked_for_and_the_budget_learns_from_it(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget], market: Market
) -> None:
    one = client(exchange.url, market)
    answer = one.rows(series(market), PAGE)
    assert len(json.loads(answer.body)) == 60
    assert inspect(answer.body, PAGE, series(market), answer.server_ms).rows == 60
    assert answer.server_ms
    assert abs(answer.server_ms - time.time() * 1000) < 5_000
    assert answer.server_ms % 1000 == 0
    told = state(budgets, market)
    assert told.used == (2 if market is Market.SPOT else 1)
    assert told.rtt_ms is not None
    assert told.offset_ms is not None
    assert abs(told.offset_ms) < 1_100
    [call] = exchange.calls()
    span = PAGE.span
    assert (call["start"], call["end"], call["limit"]) == (str(span.start_ms), str(span.end_ms - 1), "60")


FAULTS: list[tuple[str, type[FleetError], bool]] = [
    ("400", Refused, False),
    ("403", Firewalled, False),
    ("408", ServerFault, False),
    ("418", Banned, True),
    ("429", TooManyRequests, True),
    ("451", Restricted, False),
    ("500", ServerFault, False),
    ("502", ServerFault, False),
    ("503", ServerFault, False),
    ("reset", Unreachable, False),
    ("truncated", Unreachable, False),
    ("not_json", BadAnswer, False),
    ("html_200", BadAnswer, False),
]


@pytest.mark.parametrize(("fault", "wanted", "closes"), FAULTS, ids=[fault for fault, *_ in FAULTS])
@pytest.mark.parametrize("market", [Market.SPOT, Market.USD_M])
def test_each_way_to_fail_is_one_error_and_only_429_and_418_close_the_pool(
    exchange: Exchange,
    client: Maker,
    budgets: Callable[[Market], RedisBudget],
    market: Market,
    fault: str,
    wanted: type[FleetError],
    closes: bool,
) -> None:
    one = client(exchange.url, market)
    ask(one, market)
    exchange.faults({fault: 1.0}, retry_after_s=7, ban_s=40)
    with pytest.raises(FleetError) as failed:
        ask(one, market)
    assert type(failed.value) is wanted
    assert market in str(failed.value)
    told = state(budgets, market)
    assert bool(told.closed_ms) == closes
    assert told.used >= 1
    exchange.ask("DELETE", "books")


def test_a_refusal_tells_the_exchanges_own_code(exchange: Exchange, client: Maker) -> None:
    one = client(exchange.url)
    with pytest.raises(Refused, match="Invalid symbol") as refused:
        one.rows(Series(Market.USD_M, Kind.KLINES, Interval.M1, "NOPEUSDT"), PAGE)
    assert refused.value.code == -1121
    with pytest.raises(Refused) as refused:
        one.rows(series(), Page(PAGE.span, 1501, 10))
    assert refused.value.code == -1130


@pytest.mark.parametrize("market", [Market.SPOT, Market.USD_M])
def test_a_ban_closes_the_pool_until_the_exchange_says(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget], market: Market
) -> None:
    one = client(exchange.url, market)
    ask(one, market)
    exchange.faults({"418": 1.0}, ban_s=40)
    with pytest.raises(Banned) as banned:
        ask(one, market)
    assert banned.value.until_ms
    assert 38_000 <= banned.value.until_ms - time.time() * 1000 <= 40_000
    assert 38_000 <= state(budgets, market).closed_ms <= 41_200


def test_a_429_closes_the_pool_for_as_long_as_spot_says(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    exchange.faults({"429": 1.0}, retry_after_s=7)
    with pytest.raises(TooManyRequests) as told:
        ask(client(exchange.url, Market.SPOT), Market.SPOT)
    assert told.value.after_ms == 7_000
    assert 6_000 <= state(budgets, Market.SPOT).closed_ms <= 7_000


def test_a_429_without_a_word_closes_the_pool_to_the_next_minute(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    one = client(exchange.url)
    ask(one)
    exchange.faults({"429": 1.0}, retry_after_s=7)
    with pytest.raises(TooManyRequests) as told:
        ask(one)
    assert told.value.after_ms is None
    left_ms = 60_000 - time.time() * 1000 % 60_000
    assert left_ms - 1_000 <= state(budgets).closed_ms <= left_ms + 1_500


def test_the_other_market_of_a_pool_is_closed_with_it_and_the_other_pool_is_not(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    ask(client(exchange.url))
    exchange.faults({"418": 1.0}, ban_s=40)
    with pytest.raises(Banned):
        ask(client(exchange.url))
    assert state(budgets, Market.COIN_M).closed_ms > 0
    assert state(budgets, Market.SPOT).closed_ms == 0


def test_a_page_cut_in_half_under_an_honest_length_is_found_by_its_shape(exchange: Exchange, client: Maker) -> None:
    exchange.faults({"half": 1.0})
    cut = ask(client(exchange.url))
    with pytest.raises(BadAnswer):
        inspect(cut, PAGE, series(), None)


def test_an_exchange_that_does_not_answer_is_given_up_after_the_timeout(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    one = client(exchange.url, timeout_s=0.3)
    ask(one)
    exchange.faults({"hang": 1.0}, hang_s=20)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="nothing was kept"):
        ask(one)
    assert 0.3 <= time.monotonic() - began < 3
    told = state(budgets)
    assert (told.closed_ms, told.used) == (0, 2)


def test_an_exchange_that_is_not_there_is_unreachable(client: Maker) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Unreachable):
        ask(client(url))


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


@pytest.mark.parametrize(
    ("market", "symbol", "interval", "first_ms"),
    [
        (Market.SPOT, "BTCUSDT", Interval.M1, utc_ms(2017, 8, 17) + 4 * HOUR_MS),
        (Market.SPOT, "币安人生USDT", Interval.H1, utc_ms(2026, 1, 7) + 12 * HOUR_MS),
        (Market.USD_M, "BTCUSDT", Interval.D1, utc_ms(2019, 9, 8)),
    ],
)
def test_the_first_candle_ever_is_told(
    exchange: Exchange, client: Maker, market: Market, symbol: str, interval: Interval, first_ms: int
) -> None:
    assert client(exchange.url, market).first_open_ms(symbol, interval) == first_ms


def rows_of(one: RestClient, asked: Series, span: Span) -> list[int]:
    """Open times of all pages of a span, as the fetch task would keep them."""
    got = []
    for page in pages(asked, span):
        answer = one.rows(asked, page)
        inspect(answer.body, page, asked, answer.server_ms)
        got.append(answer.body)
    return decode_pages(Kind.KLINES, got)["open_time"].dt.timestamp("ms").to_list()


@pytest.mark.parametrize(
    ("interval", "span"),
    [
        (Interval.M1, Span(utc_ms(2024, 2), utc_ms(2024, 3))),
        (Interval.D1, Span(utc_ms(2021), utc_ms(2024))),
        (Interval.H12, Span(utc_ms(2022), utc_ms(2023))),
        (Interval.W1, Span(utc_ms(2021, 1, 4), utc_ms(2024))),
        (Interval.MO1, Span(utc_ms(2021), utc_ms(2024))),
    ],
    ids=["a month of minutes", "three years of days", "a year of half days", "three years of weeks", "months"],
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
def test_coin_m_days_are_complete_on_both_sides_of_200(exchange: Exchange, client: Maker, days: int) -> None:
    asked = series(Market.COIN_M, Interval.D1)
    span = Span(utc_ms(2023), utc_ms(2023) + days * DAY_MS)
    assert rows_of(client(exchange.url, Market.COIN_M), asked, span) == list(opens(span, DAY_MS))


def test_coin_m_weeks_of_a_years_block_are_never_refused(exchange: Exchange, client: Maker) -> None:
    asked = series(Market.COIN_M, Interval.W1)
    assert len(rows_of(client(exchange.url, Market.COIN_M), asked, Span(utc_ms(2025), utc_ms(2025, 7, 21)))) == 28


def test_calls_go_out_by_the_address_they_are_told_to(exchange: Exchange, client: Maker) -> None:
    with pooled_session(2, "127.0.0.2") as session:
        ask(client(exchange.url, session=session))
    ask(client(exchange.url))
    assert sorted(minute["address"] for minute in exchange.books()["minutes"]) == ["127.0.0.1", "127.0.0.2"]


Answer = tuple[int, dict[str, str], bytes]
GOOD = body(opens(PAGE.span))


class Local(BaseHTTPRequestHandler):
    """Answers what it is told to, as no exchange in its right mind would."""

    protocol_version = "HTTP/1.1"
    answers: Iterator[Answer]
    drip_s = 0.0
    connections = 0

    def setup(self) -> None:
        super().setup()
        type(self).connections += 1

    def do_GET(self) -> None:
        status, headers, told = next(self.answers)
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(told)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not self.drip_s:
            self.wfile.write(told)
            return
        for at in range(20):
            self.wfile.write(told[at : at + 1])
            self.wfile.flush()
            time.sleep(self.drip_s)
        self.wfile.write(told[20:])

    def log_message(self, *_: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has hung up is what some tests are about."""


@contextmanager
def answering(*answers: Answer, drip_s: float = 0.0) -> Iterator[tuple[str, type[Local]]]:
    """A server that gives these answers, the last one for ever."""
    told = itertools.chain(answers, itertools.repeat(answers[-1]))
    handler = type("Handler", (Local,), {"answers": told, "drip_s": drip_s})
    with Quiet(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", handler
        finally:
            server.shutdown()
            thread.join()


def dated(**headers: str) -> dict[str, str]:
    return {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())} | headers


@pytest.mark.parametrize("used", [None, "-1", "", "many", "1.5", "²"])
def test_a_used_weight_that_is_missing_or_no_number_is_tolerated(
    client: Maker, budgets: Callable[[Market], RedisBudget], used: str | None
) -> None:
    headers = dated() if used is None else dated(**{"x-mbx-used-weight-1m": used})
    with answering((200, headers, GOOD)) as (url, _):
        assert ask(client(url)) == GOOD
    assert state(budgets).used == 1


def test_a_used_weight_of_others_too_is_learned(client: Maker, budgets: Callable[[Market], RedisBudget]) -> None:
    with answering((200, dated(**{"X-MBX-USED-WEIGHT-1M": "1234"}), GOOD)) as (url, _):
        ask(client(url))
    assert state(budgets).used == 1234


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Foo 2024 99:99:99 GMT"])
def test_an_answer_without_a_readable_date_is_taken_without_a_clock(client: Maker, date: str | None) -> None:
    with answering((200, {} if date is None else {"Date": date}, GOOD)) as (url, _):
        answer = client(url).rows(series(), PAGE)
    assert (answer.body, answer.server_ms) == (GOOD, None)


@pytest.mark.parametrize(
    ("status", "headers", "told", "wanted", "known"),
    [
        (429, {"Retry-After": "35"}, b"{}", TooManyRequests, {"after_ms": 35_000}),
        (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"{}", TooManyRequests, {"after_ms": None}),
        (429, {"Retry-After": "-5"}, b"{}", TooManyRequests, {"after_ms": None}),
        (418, {"Retry-After": "120"}, b"<html>teapot", Banned, {"until_ms": None, "after_ms": 120_000}),
        (418, {}, b"", Banned, {"until_ms": None, "after_ms": None}),
        (418, {}, b'{"msg":"IP(1.2.3.4) banned until 1783855317204. "}', Banned, {"until_ms": 1783855317204}),
        (403, {}, b'{"msg":"Way too many; IP banned until 1783855317204."}', Banned, {"until_ms": 1783855317204}),
        (404, {}, b"<html>not found</html>", Refused, {"code": 0}),
        (400, {}, b'{"code":"-1121"}', Refused, {"code": -1121}),
        (400, {}, b'["code"]', Refused, {"code": 0}),
        (302, {"Location": "http://127.0.0.1:9/elsewhere"}, b"", Refused, {"code": 0}),
        (500, {}, b"\xff\xfe\x00", ServerFault, {}),
        (504, {}, b"", ServerFault, {}),
        (200, {}, b"", BadAnswer, {}),
        (200, {}, b"\xff\xfe", BadAnswer, {}),
        (200, {"Content-Encoding": "gzip"}, b"no gzip at all", Unreachable, {}),
    ],
)
def test_every_answer_there_can_be_is_one_error_that_says_what_it_knows(
    client: Maker, status: int, headers: dict[str, str], told: bytes, wanted: type[FleetError], known: dict[str, Any]
) -> None:
    with answering((status, dated() | headers, told)) as (url, _), pytest.raises(FleetError) as failed:
        ask(client(url))
    assert type(failed.value) is wanted
    assert {name: getattr(failed.value, name) for name in known} == known
    assert len(str(failed.value)) < 1000


def test_a_ban_that_tells_only_how_long_closes_the_pool_for_so_long(
    client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    with answering((418, dated(**{"Retry-After": "50"}), b"")) as (url, _), pytest.raises(Banned):
        ask(client(url))
    assert 48_000 <= state(budgets).closed_ms <= 50_000


def test_an_answer_that_drips_is_given_up_after_the_timeout(client: Maker) -> None:
    """A call that lasts longer than a minute may be counted in more minutes than it is charged to."""
    with answering((200, dated(), GOOD), drip_s=0.1) as (url, _), pytest.raises(Transient):
        ask(client(url, timeout_s=0.5))


def test_connections_are_kept_alive_and_used_again(client: Maker) -> None:
    with answering((200, dated(), GOOD), (400, dated(), b"{}"), (500, dated(), b""), (200, dated(), GOOD)) as (
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


@pytest.mark.parametrize(
    "told",
    [
        b"[]",
        b"{",
        b"{}",
        b'{"rateLimits":[],"symbols":[]}',
        b'{"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1}],"symbols":[]}',
        b'{"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":9}],"symbols":[{}]}',
        pytest.param(
            b'{"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":9}],"symbols":[7]}',
        ),
        b'{"rateLimits":7,"symbols":[]}',
    ],
)
def test_an_exchange_info_of_another_shape_is_a_bad_answer(client: Maker, told: bytes) -> None:
    with answering((200, dated(), told)) as (url, _), pytest.raises(BadAnswer):
        client(url).exchange_info()


NO_ROWS = [
    b'[["x"]]',
    b"[[]]",
    b"[7]",
]


@pytest.mark.parametrize("told", [b"[]", b"{}", b"[", *NO_ROWS])
def test_a_first_candle_of_another_shape_is_a_bad_answer_and_none_is_none(client: Maker, told: bytes) -> None:
    with answering((200, dated(), told)) as (url, _):
        if told == b"[]":
            assert client(url).first_open_ms("BTCUSDT", Interval.M1) is None
        else:
            with pytest.raises(BadAnswer):
                client(url).first_open_ms("BTCUSDT", Interval.M1)


def test_symbols_of_any_script_reach_the_exchange_as_they_are(exchange: Exchange, client: Maker) -> None:
    asked = Series(Market.USD_M, Kind.KLINES, Interval.M1, "币安人生USDT")
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

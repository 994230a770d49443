"""The REST client when the exchange fails: one error for each fault, and the budget's update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from klinefleet.workers.binance.page_check import inspect
from klinefleet.workers.domain.errors import (
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
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.limits.redis_budget import RedisBudget
from tests.integration.odd_answers import GOOD, answering, dated
from tests.integration.rest_client import PAGE, Maker, Stopwatch, ask, series, state
from tests.processes import free_port
from tests.servers import Exchange
from tests.unit.helpers.plain_words import assert_plain

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
    exchange.faults({fault: 1.0}, retry_after_s=40, ban_s=40)
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
        one.rows(Series(Market.USD_M, KLINES, Interval.M1, "NOPEUSDT"), PAGE)
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
    watch = Stopwatch()
    with pytest.raises(Banned) as banned:
        ask(one, market)
    assert banned.value.until_ms
    assert 0 <= banned.value.until_ms - exchange.calls()[-1]["at_ms"] - 40_000 <= watch.ms
    watch.assert_closed(state(budgets, market).closed_ms, 40_000)


def test_a_429_closes_the_pool_for_as_long_as_spot_says(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    one = client(exchange.url, Market.SPOT)
    exchange.faults({"429": 1.0}, retry_after_s=7)
    watch = Stopwatch()
    with pytest.raises(TooManyRequests) as told:
        ask(one, Market.SPOT)
    assert told.value.after_ms == 7_000
    watch.assert_closed(state(budgets, Market.SPOT).closed_ms, 7_000)


def test_a_429_without_a_word_closes_the_pool_to_the_next_minute(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    one = client(exchange.url)
    ask(one)
    exchange.faults({"429": 1.0}, retry_after_s=7)
    watch = Stopwatch()
    with pytest.raises(TooManyRequests) as told:
        ask(one)
    assert told.value.after_ms is None
    left_ms = 60_000 - exchange.calls()[-1]["at_ms"] % 60_000
    watch.assert_closed(state(budgets).closed_ms, left_ms)


def test_the_other_market_of_a_pool_is_closed_with_it_and_the_other_pool_is_not(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    ask(client(exchange.url))
    exchange.faults({"418": 1.0}, ban_s=40)
    with pytest.raises(Banned):
        ask(client(exchange.url))
    assert state(budgets, Market.COIN_M).closed_ms > 0
    assert state(budgets, Market.SPOT).closed_ms == 0


def test_a_page_cut_in_half_under_an_honest_length_is_found_by_its_shape(
    exchange: Exchange, client: Maker
) -> None:
    exchange.faults({"half": 1.0})
    cut = ask(client(exchange.url))
    with pytest.raises(BadAnswer):
        inspect(cut, PAGE, series(), None)


def test_an_exchange_that_does_not_answer_is_given_up_after_the_timeout(
    exchange: Exchange, client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    ask(client(exchange.url))
    hasty = client(exchange.url, timeout_s=0.3)
    exchange.faults({"hang": 1.0}, hang_s=300)
    watch = Stopwatch()
    with pytest.raises(Unreachable, match="nothing was kept"):
        ask(hasty)
    # Long before the exchange would have answered, on however busy a machine.
    assert 300 <= watch.ms < 150_000
    told = state(budgets)
    assert (told.closed_ms, told.used) == (0, 2)


def test_an_exchange_that_is_not_there_is_unreachable(client: Maker) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable) as failed:
        ask(client(url))
    told = f"um /klines: {url} refused the connection; nothing was kept"
    assert failed.value.reason == f"Unreachable: {told}"


@pytest.mark.parametrize("used", [None, "-1", "", "many", "1.5", "²"])
def test_a_used_weight_that_is_missing_or_no_number_is_tolerated(
    client: Maker, budgets: Callable[[Market], RedisBudget], used: str | None
) -> None:
    headers = dated() if used is None else dated(**{"x-mbx-used-weight-1m": used})
    with answering((200, headers, GOOD)) as (url, _):
        assert ask(client(url)) == GOOD
    assert state(budgets).used == 1


def test_a_used_weight_of_others_too_is_learned(
    client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    with answering((200, dated(**{"X-MBX-USED-WEIGHT-1M": "1234"}), GOOD)) as (url, _):
        ask(client(url))
    assert state(budgets).used == 1234


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Foo 2024 99:99:99 GMT"])
def test_an_answer_without_a_readable_date_is_taken_without_a_clock(
    client: Maker, date: str | None
) -> None:
    with answering((200, {} if date is None else {"Date": date}, GOOD)) as (url, _):
        answer = client(url).rows(series(), PAGE)
    assert (answer.body, answer.server_ms) == (GOOD, None)


@pytest.mark.parametrize(
    ("status", "headers", "told", "wanted", "known"),
    [
        (429, {"Retry-After": "35"}, b"{}", TooManyRequests, {"after_ms": 35_000}),
        (
            429,
            {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"},
            b"{}",
            TooManyRequests,
            {"after_ms": None},
        ),
        (429, {"Retry-After": "-5"}, b"{}", TooManyRequests, {"after_ms": None}),
        (429, {"Retry-After": "9" * 5000}, b"{}", TooManyRequests, {"after_ms": None}),
        (429, {"Retry-After": "0"}, b"{}", TooManyRequests, {"after_ms": 0}),
        (
            418,
            {"Retry-After": "120"},
            b"<html>teapot",
            Banned,
            {"until_ms": None, "after_ms": 120_000},
        ),
        (418, {}, b"", Banned, {"until_ms": None, "after_ms": None}),
        (
            418,
            {},
            b'{"msg":"IP(1.2.3.4) banned until 1783855317204. "}',
            Banned,
            {"until_ms": 1783855317204},
        ),
        (
            403,
            {},
            b'{"msg":"Way too many; IP banned until 1783855317204."}',
            Banned,
            {"until_ms": 1783855317204},
        ),
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
    client: Maker,
    status: int,
    headers: dict[str, str],
    told: bytes,
    wanted: type[FleetError],
    known: dict[str, Any],
) -> None:
    with (
        answering((status, dated() | headers, told)) as (url, _),
        pytest.raises(FleetError) as failed,
    ):
        ask(client(url))
    assert type(failed.value) is wanted
    assert {name: getattr(failed.value, name) for name in known} == known
    assert len(str(failed.value)) < 1000
    assert_plain(failed.value)


def test_a_ban_that_tells_only_how_long_closes_the_pool_for_so_long(
    client: Maker, budgets: Callable[[Market], RedisBudget]
) -> None:
    watch = Stopwatch()
    with answering((418, dated(**{"Retry-After": "50"}), b"")) as (url, _), pytest.raises(Banned):
        ask(client(url))
    watch.assert_closed(state(budgets).closed_ms, 50_000)


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (429, {"Retry-After": "0"}, b"{}"),
        (418, {"Retry-After": "0"}, b"{}"),
        (418, {}, b"banned until 1000000000000"),
        (418, {}, b'{"msg":"banned until 0"}'),
    ],
)
def test_an_end_that_is_over_closes_the_pool_all_the_same(
    client: Maker,
    budgets: Callable[[Market], RedisBudget],
    status: int,
    headers: dict[str, str],
    told: bytes,
) -> None:
    with (
        answering((status, dated() | headers, told)) as (url, _),
        pytest.raises((Banned, TooManyRequests)),
    ):
        ask(client(url))
    assert 500 <= state(budgets).closed_ms <= 61_000


def test_a_ban_until_another_century_is_doubted_and_the_log_says_what_to_do(
    client: Maker, budgets: Callable[[Market], RedisBudget], caplog: pytest.LogCaptureFixture
) -> None:
    watch = Stopwatch()
    with (
        answering((418, dated(), b"banned until 9952000000000")) as (url, _),
        pytest.raises(Banned),
    ):
        ask(client(url))
    watch.assert_closed(state(budgets).closed_ms, 3_600_000)
    assert "`klines reopen`" in caplog.text


@pytest.mark.parametrize("used", ["9" * 5000, "-1", "0x10", "٣", "1e6"])
def test_a_used_weight_that_is_no_number_is_no_header(
    client: Maker, budgets: Callable[[Market], RedisBudget], used: str
) -> None:
    headers = dated(**{"x-mbx-used-weight-1m": used.encode("utf-8").decode("latin-1")})
    with answering((200, headers, GOOD)) as (url, _):
        ask(client(url))
    assert state(budgets).used <= 10


def test_an_answer_that_drips_is_given_up_after_the_timeout(client: Maker) -> None:
    """A call of more than a minute may be counted in more minutes than it is charged to."""
    with answering((200, dated(), GOOD), drip_s=0.4) as (url, _), pytest.raises(Transient):
        ask(client(url, timeout_s=0.5))


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
def test_a_first_candle_of_another_shape_is_a_bad_answer_and_none_is_none(
    client: Maker, told: bytes
) -> None:
    with answering((200, dated(), told)) as (url, _):
        if told == b"[]":
            assert client(url).first_open_ms(series()) is None
        else:
            with pytest.raises(BadAnswer):
                client(url).first_open_ms(series())

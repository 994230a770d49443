from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deploy.simulator.markets import Pool
from deploy.simulator.moments import MINUTE_MS
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange

SPOT = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=2"
USD_M = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=2"
COIN_M = "/dapi/v1/klines?symbol=BTCUSD_PERP&interval=1m&limit=2"


def test_every_answer_tells_the_weight_used_including_its_own_call() -> None:
    async def scenario(client: Client) -> None:
        spot = [await client.get(SPOT) for _ in range(2)]
        assert [answer.headers["x-mbx-used-weight-1m"] for answer in spot] == ["2", "4"]
        assert [answer.headers["x-mbx-used-weight"] for answer in spot] == ["2", "4"]
        futures = [
            await client.get(path)
            for path in (USD_M, COIN_M, "/fapi/v1/ping", "/dapi/v1/exchangeInfo")
        ]
        assert [answer.headers["x-mbx-used-weight-1m"] for answer in futures] == [
            "1",
            "2",
            "3",
            "4",
        ]
        assert "x-mbx-used-weight" not in futures[0].headers
        info = await client.get("/api/v3/exchangeInfo")
        assert info.headers["x-mbx-used-weight-1m"] == "24"

    with_exchange(scenario)


def test_refused_calls_are_charged() -> None:
    async def scenario(client: Client) -> None:
        refused = await client.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1501")
        assert (refused.status, refused.body["code"]) == (400, -1130)
        assert refused.headers["x-mbx-used-weight-1m"] == "10"
        unknown = await client.get("/fapi/v1/klines?symbol=NOPE&interval=1m&limit=400")
        assert (unknown.status, unknown.body) == (400, {"code": -1121, "msg": "Invalid symbol."})
        assert unknown.headers["x-mbx-used-weight-1m"] == "12"

    with_exchange(scenario)


def test_date_and_time_come_from_the_exchange_s_own_clock() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.get("/fapi/v1/time")
        assert answer.body == {"serverTime": NOW_MS}
        assert answer.headers["date"] == "Sat, 21 Nov 2026 01:00:30 GMT"
        client.now_ms += 100
        assert (await client.get(SPOT)).headers["date"] == "Sat, 21 Nov 2026 01:00:31 GMT"

    with_exchange(scenario)


def test_spending_past_the_limit_is_429_and_only_spot_says_how_long_to_wait() -> None:
    async def scenario(client: Client) -> None:
        for path in (SPOT, USD_M):
            for _ in range(2):
                assert (await client.get(path)).status == 200
        spot, futures = await client.get(SPOT), await client.get(COIN_M)
        assert (spot.status, spot.body["code"], spot.headers["retry-after"]) == (429, -1003, "30")
        assert "current limit is 4 request weight per 1 MINUTE" in spot.body["msg"]
        assert (futures.status, futures.body["code"]) == (429, -1003)
        assert "current limit is 2 requests per minute" in futures.body["msg"]
        assert "retry-after" not in futures.headers
        client.now_ms += MINUTE_MS
        assert (await client.get(SPOT)).status == 200

    with_exchange(scenario, limits={Pool.SPOT: 4, Pool.FUTURES: 2})


def test_ignored_429s_end_in_418_whose_end_stands_in_the_body() -> None:
    async def scenario(client: Client) -> None:
        statuses = [(await client.get(path)).status for path in [SPOT, USD_M] * 12]
        assert statuses == [200] * 2 + [429] * 20 + [418] * 2
        until_ms = NOW_MS + 5_000
        spot, futures = await client.get(SPOT), await client.get("/dapi/v1/ping")
        assert (spot.status, futures.status) == (418, 418)
        assert f"banned until {until_ms}" in spot.body["msg"]
        assert f"IP(127.0.0.1) banned until {until_ms}" in futures.body["msg"]
        assert spot.headers["retry-after"] == "5"
        assert "retry-after" not in futures.headers
        client.now_ms += 4_000
        assert (await client.get(SPOT)).headers["retry-after"] == "1"

    with_exchange(scenario, limits={Pool.SPOT: 2, Pool.FUTURES: 1}, ban_s=5)


def test_exchange_info_tells_limits_and_listings_in_each_market_s_words() -> None:
    async def scenario(client: Client) -> None:
        spot, usd_m, coin_m = [
            (await client.get(f"{path}/exchangeInfo")).body
            for path in ("/api/v3", "/fapi/v1", "/dapi/v1")
        ]
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
        assert spot["rateLimits"][0] == weight | {"limit": 600}
        assert usd_m["rateLimits"][0] == coin_m["rateLimits"][0] == weight | {"limit": 240}
        assert spot["serverTime"] == NOW_MS
        by_name = {symbol["symbol"]: symbol for symbol in spot["symbols"]}
        assert by_name["BCCUSDT"]["status"] == "BREAK"
        assert "币安人生USDT" in by_name
        assert not any("onboardDate" in symbol for symbol in by_name.values())
        by_name = {symbol["symbol"]: symbol for symbol in usd_m["symbols"]}
        assert by_name["BTCUSDT"]["onboardDate"] == 1_567_965_300_000
        assert by_name["OMGUSDT"]["status"] == "SETTLING"
        assert by_name["OMGUSDT"]["deliveryDate"] == 1_738_314_000_000
        assert by_name["BTCUSDT_261225"]["contractType"] == "CURRENT_QUARTER"
        by_name = {symbol["symbol"]: symbol for symbol in coin_m["symbols"]}
        assert by_name["BTCUSD_PERP"]["contractStatus"] == "TRADING"
        assert by_name["BTCUSD_PERP"]["contractSize"] == 100
        assert by_name["BTCUSD_PERP"]["pair"] == "BTCUSD"
        assert "status" not in by_name["BTCUSD_PERP"]

    with_exchange(scenario, limits={Pool.SPOT: 600, Pool.FUTURES: 240})


def test_a_symbol_in_chinese_letters_is_answered() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.get("/fapi/v1/klines?symbol=币安人生USDT&interval=1h&limit=1")
        assert (answer.status, len(answer.body)) == (200, 1)

    with_exchange(scenario)


def test_the_books_hold_what_was_spent_and_the_log_what_was_asked() -> None:
    async def scenario(client: Client) -> None:
        await client.get(SPOT + "&startTime=0")
        await client.get("/fapi/v1/klines?symbol=NOPE&interval=1m")
        books = (await client.get("/sim/books")).body
        spot, futures = books["minutes"]
        assert (spot["address"], spot["pool"], spot["minute_ms"]) == (
            "127.0.0.1",
            "spot",
            NOW_MS - 30_900,
        )
        assert (spot["weight"], spot["calls"], spot["limit"], spot["refused_429"]) == (
            2,
            1,
            6_000,
            0,
        )
        assert (futures["pool"], futures["weight"]) == ("futures", 5)
        assert (books["calls"], books["klines"], books["faults"]) == (2, 2, {})
        first, second = (await client.get("/sim/calls")).body
        assert first == {
            "market": "spot",
            "kind": "klines",
            "symbol": "BTCUSDT",
            "interval": "1m",
            "start": "0",
            "end": None,
            "limit": "2",
            "status": 200,
            "rows": 2,
            "at_ms": NOW_MS,
            "fault": None,
        }
        assert (second["market"], second["status"], second["rows"]) == ("um", 400, 0)
        await client.call("DELETE", "/sim/books")
        await client.call("DELETE", "/sim/calls")
        empty = {"minutes": [], "funding": [], "calls": 0, "klines": 0, "faults": {}}
        assert (await client.get("/sim/books")).body == empty
        assert (await client.get("/sim/calls")).body == []

    with_exchange(scenario)


def test_a_test_can_ban_an_address_and_let_it_in_again() -> None:
    async def scenario(client: Client) -> None:
        told = {"address": "127.0.0.1", "pool": "futures", "seconds": 60}
        until_ms = (await client.call("POST", "/sim/ban", told)).body["until_ms"]
        assert until_ms == NOW_MS + 60_000
        assert (await client.get(USD_M)).status == 418
        assert (await client.get(SPOT)).status == 200
        await client.call("POST", "/sim/ban", told | {"seconds": 0})
        assert (await client.get(USD_M)).status == 200

    with_exchange(scenario)


def test_another_program_can_be_put_on_the_address() -> None:
    async def scenario(client: Client) -> None:
        told = {"address": "127.0.0.1", "pool": "spot", "weight_per_minute": 6_000}
        await client.call("PUT", "/sim/foreign", told)
        client.now_ms += 1_000
        while not (await client.get("/sim/books")).body["minutes"]:
            await asyncio.sleep(0.02)
        (minute,) = (await client.get("/sim/books")).body["minutes"]
        assert (minute["weight"], minute["foreign_weight"], minute["calls"]) == (100, 100, 0)
        assert (await client.get(SPOT)).headers["x-mbx-used-weight-1m"] == "102"

    with_exchange(scenario)


def test_other_programs_on_the_address_have_a_profile_by_calendar_minutes() -> None:
    async def scenario(client: Client) -> None:
        told = {
            "address": "127.0.0.1",
            "pool": "futures",
            "profile": [
                {"weight": 300, "seconds": [35, 50]},
                {"even": 600, "first_minute": 1, "minutes": 1},
                {"weight": 200, "seconds": [0.3], "every": 3},
                {"random": 500, "seed": 3, "first_minute": 4},
            ],
        }
        await client.call("PUT", "/sim/foreign", told)
        client.now_ms += 4 * MINUTE_MS - client.now_ms % MINUTE_MS - 1
        await client.get(USD_M)
        minutes = (await client.get("/sim/books")).body["minutes"]
        assert [minute["foreign_weight"] for minute in minutes] == [600, 1_200, 600, 800]

    with_exchange(scenario)


def test_another_program_without_a_profile_is_gone() -> None:
    async def scenario(client: Client) -> None:
        told: dict[str, object] = {"address": "127.0.0.1", "pool": "futures"}
        for nobody in ({}, {"profile": None}, {"weight_per_minute": 0}):
            await client.call("PUT", "/sim/foreign", told | {"profile": {"even": 600}})
            assert (await client.call("PUT", "/sim/foreign", told | nobody)).status == 200
        client.now_ms += MINUTE_MS
        assert (await client.get(USD_M)).headers["x-mbx-used-weight-1m"] == "1"

    with_exchange(scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_per_minute": -1},
        {"weight_per_minute": "many"},
        {"weight_per_minute": 600, "profile": {"even": 600}},
        {"profil": {"even": 600}},
        {"profile": 600},
        {"profile": {"evn": 600}},
        {"profile": {"even": 600, "random": 600}},
        {"profile": {"even": 600, "seconds": [1]}},
        {"profile": {"even": 600, "minutes": 0}},
        {"profile": {"weight": 600}},
        {"profile": {"weight": 600, "seconds": 30}},
        {"profile": {"weight": 600, "seconds": [60]}},
        {"profile": {"weight": 600, "seconds": [30], "every": 0}},
        {"profile": {"random": 1.5}},
        {"profile": [{"even": 600}, 600]},
    ],
    ids=str,
)
def test_a_profile_that_makes_no_sense_is_answered_with_a_sentence(wrong: dict[str, Any]) -> None:
    async def scenario(client: Client) -> None:
        told = {"address": "127.0.0.1", "pool": "futures", **wrong}
        answer = await client.call("PUT", "/sim/foreign", told)
        assert answer.status == 400
        assert len(answer.body["error"].split()) > 4

    with_exchange(scenario)


def test_latency_holds_answers_back_but_weight_is_counted_on_arrival() -> None:
    async def scenario(client: Client) -> None:
        await client.call("PUT", "/sim/latency", {"ms": 60_000})
        waiting = asyncio.create_task(client.get(SPOT))
        while not (books := (await client.get("/sim/books")).body)["minutes"]:
            await asyncio.sleep(0.01)
        assert books["minutes"][0]["weight"] == 2
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    with_exchange(scenario)


def test_nonsense_told_to_the_controls_is_answered_with_a_sentence() -> None:
    async def scenario(client: Client) -> None:
        for method, path, told in (
            ("PUT", "/sim/faults", {"rates": {"meteor": 1}}),
            ("PUT", "/sim/faults", {"rates": {"500": 0.9, "502": 0.2}}),
            ("PUT", "/sim/faults", {"colour": "red"}),
            ("PUT", "/sim/latency", {}),
            ("POST", "/sim/ban", {"address": "127.0.0.1", "pool": "margin", "seconds": 1}),
        ):
            answer = await client.call(method, path, told)
            assert answer.status == 400, path
            assert answer.body["error"]

    with_exchange(scenario)

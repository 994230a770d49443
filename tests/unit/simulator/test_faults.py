from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from deploy.simulator.exchange import Exchange
from deploy.simulator.faults import Fault, Faults, Plan
from deploy.simulator.moments import utc_ms
from deploy.simulator.server import serving
from deploy.simulator.source import Generated

NOW_MS = utc_ms("2026-11-21 01:00:30")
SPOT = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=100"
USD_M = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=100"

Scenario = Callable[[aiohttp.ClientSession], Awaitable[None]]


def with_fault(fault: Fault, scenario: Scenario, **plan: Any) -> dict[str, Any]:
    """Run a scenario against an exchange whose every kline call fails so, and return its books."""

    async def run() -> dict[str, Any]:
        exchange = Exchange(clock=lambda: NOW_MS, source=Generated(symbols=20))
        exchange.faults.follow(Plan(rates={fault: 1.0}, **plan))
        async with serving(exchange) as url, aiohttp.ClientSession(url) as session:
            await scenario(session)
        return exchange.report() | {"log": exchange.calls()}

    return asyncio.run(run())


async def read(session: aiohttp.ClientSession, path: str) -> tuple[int, dict[str, str], bytes]:
    async with session.get(path) as answer:
        return (
            answer.status,
            {name.lower(): value for name, value in answer.headers.items()},
            await answer.read(),
        )


async def call_log(session: aiohttp.ClientSession) -> Any:
    return json.loads((await read(session, "/sim/calls"))[2])


def test_the_same_seed_brings_the_same_faults() -> None:
    plan = Plan(rates={Fault.RESET: 0.2, Fault.INTERNAL: 0.1}, seed=7)
    one, other = Faults(plan), Faults(plan)
    drawn = [one.draw() for _ in range(500)]
    assert drawn == [other.draw() for _ in range(500)]
    assert 60 < drawn.count(Fault.RESET) < 140
    assert 20 < drawn.count(Fault.INTERNAL) < 80
    assert set(drawn) == {None, Fault.RESET, Fault.INTERNAL}


def test_without_a_plan_nothing_fails() -> None:
    assert {Faults().draw() for _ in range(100)} == {None}


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        (Fault.BAD_REQUEST, 400, "application/json"),
        (Fault.FIREWALL, 403, "text/html"),
        (Fault.BACKEND_TIMEOUT, 408, "application/json"),
        (Fault.RESTRICTED, 451, "application/json"),
        (Fault.INTERNAL, 500, "application/json"),
        (Fault.BAD_GATEWAY, 502, "text/html"),
        (Fault.UNAVAILABLE, 503, "application/json"),
        (Fault.NOT_JSON, 200, "application/json"),
        (Fault.HTML_200, 200, "text/html"),
    ],
)
def test_a_fault_with_an_answer_looks_like_it(fault: Fault, status: int, content_type: str) -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        found, headers, body = await read(session, USD_M)
        assert found == status
        assert headers["content-type"].startswith(content_type)
        if status != 200 and content_type == "application/json":
            assert set(json.loads(body)) == {"code", "msg"}
        else:
            assert not body.lstrip().startswith((b"[", b"{"))

    books = with_fault(fault, scenario)
    assert books["faults"] == {fault.value: 1}
    assert books["klines"] == 0
    assert (books["log"][0]["status"], books["log"][0]["fault"]) == (status, fault.value)
    charged = sum(minute["weight"] for minute in books["minutes"])
    assert charged == (0 if fault is Fault.UNAVAILABLE else 1)


def test_a_reset_leaves_no_answer_and_costs_nothing() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await read(session, SPOT)

    books = with_fault(Fault.RESET, scenario)
    assert sum(minute["weight"] for minute in books["minutes"]) == 0
    assert {call["status"] for call in books["log"]} == {0}


def test_a_truncated_page_ends_before_its_length() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientPayloadError):
            await read(session, SPOT)

    assert with_fault(Fault.TRUNCATED, scenario)["minutes"][0]["weight"] == 2


def test_half_a_page_has_an_honest_length_and_is_not_json() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        status, headers, body = await read(session, SPOT)
        assert (status, headers["content-length"]) == (200, str(len(body)))
        assert body.startswith(b"[[")
        with pytest.raises(ValueError, match=r"delimiter|Expecting|Unterminated"):
            json.loads(body)

    assert with_fault(Fault.HALF, scenario)["klines"] == 0


def test_a_hanging_call_says_nothing_until_the_client_gives_up() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        hanging = asyncio.create_task(read(session, SPOT))
        while not await call_log(session):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert not hanging.done()
        hanging.cancel()

    books = with_fault(Fault.HANG, scenario, hang_s=60)
    assert books["log"][0]["status"] == 0
    assert books["minutes"][0]["weight"] == 2


def test_a_hanging_call_does_not_hang_for_ever() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await read(session, USD_M)

    with_fault(Fault.HANG, scenario, hang_s=0.05)


def test_an_injected_429_names_the_wait_on_spot_only() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        status, headers, body = await read(session, SPOT)
        assert (status, headers["retry-after"], json.loads(body)["code"]) == (429, "7", -1003)
        status, headers, _ = await read(session, USD_M)
        assert (status, "retry-after" in headers) == (429, False)

    books = with_fault(Fault.TOO_MANY, scenario, retry_after_s=7)
    assert [minute["refused_429"] for minute in books["minutes"]] == [0, 0]


def test_an_injected_418_is_a_real_ban_that_is_counted_against_whoever_calls_again() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        status, _, body = await read(session, USD_M)
        assert status == 418
        assert f"banned until {NOW_MS + 4_000}" in json.loads(body)["msg"]
        assert (await read(session, "/fapi/v1/ping"))[0] == 418
        assert (await read(session, "/api/v3/ping"))[0] == 200

    books = with_fault(Fault.BANNED, scenario, ban_s=4)
    assert books["faults"] == {"418": 1}
    assert {minute["pool"]: minute["refused_418"] for minute in books["minutes"]} == {
        "futures": 1,
        "spot": 0,
    }


def test_ping_and_time_never_fail() -> None:
    async def scenario(session: aiohttp.ClientSession) -> None:
        for path in ("/api/v3/ping", "/fapi/v1/time", "/dapi/v1/exchangeInfo"):
            assert (await read(session, path))[0] == 200

    assert with_fault(Fault.INTERNAL, scenario)["faults"] == {}

"""How tests ask the stand-in for what is no kline."""

from __future__ import annotations

from typing import Any

from deploy.simulator.kinds import Kind
from deploy.simulator.moments import utc_ms
from tests.unit.helpers.simulated_exchange import Answer, Client

PATHS = {"um": "/fapi/v1", "cm": "/dapi/v1"}
MARK = "/fapi/v1/markPriceKlines?symbol=BTCUSDT&interval=1m"
FUNDING = "/fapi/v1/fundingRate?symbol=BTCUSDT"
COIN_M_FUNDING = "/dapi/v1/fundingRate?symbol=BTCUSD_PERP"
WEIGHT = "x-mbx-used-weight-1m"
HOLE_MS = utc_ms("2023-11-10 03:40")
HOLE_ENDS_MS = utc_ms("2023-11-10 04:00")
PRICES = [
    ("um", "markPriceKlines", "BTCUSDT"),
    ("um", "markPriceKlines", "BTCUSDT_261225"),
    ("um", "indexPriceKlines", "ETHUSDT"),
    ("um", "premiumIndexKlines", "币安人生USDT"),
    ("cm", "markPriceKlines", "BTCUSD_PERP"),
    ("cm", "indexPriceKlines", "BTCUSD"),
    ("cm", "premiumIndexKlines", "ETHUSD_PERP"),
]


def url(market: str, kind: str, name: str, interval: str = "1h", /, **query: int) -> str:
    parameter = "pair" if kind == Kind.INDEX else "symbol"
    sent = "".join(f"&{key}={value}" for key, value in query.items())
    told = "" if kind == Kind.FUNDING else f"&interval={interval}"
    return f"{PATHS[market]}/{kind}?{parameter}={name}{told}{sent}"


async def rows(client: Client, path: str) -> list[Any]:
    answer = await client.get(path)
    assert answer.status == 200, answer.body
    assert isinstance(answer.body, list)
    return answer.body


async def opens(client: Client, path: str) -> list[int]:
    return [row[0] for row in await rows(client, path)]


async def times(client: Client, path: str) -> list[int]:
    return [row["fundingTime"] for row in await rows(client, path)]


def refused(answer: Answer) -> tuple[int, int]:
    return answer.status, answer.body["code"]

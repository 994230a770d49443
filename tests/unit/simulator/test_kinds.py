"""Which kinds the stand-in exchange has where, and what its log and its truth tell of them."""

from __future__ import annotations

import pytest

from deploy.simulator import truth
from deploy.simulator.kinds import Kind
from deploy.simulator.markets import Market
from deploy.simulator.moments import HOUR_MS, utc_ms
from deploy.simulator.symbols import find
from tests.unit.helpers.kinds_client import (
    url,
)
from tests.unit.helpers.simulated_exchange import NOW_MS, Client, with_exchange
from tests.unit.helpers.simulator_client import raw


def test_the_log_tells_the_kind_of_every_call() -> None:
    async def scenario(client: Client) -> None:
        asked = [("um", kind, "BTCUSDT") for kind in Kind] + [("cm", "indexPriceKlines", "BTCUSD")]
        for market, kind, name in asked:
            await client.get(url(market, kind, name, limit=2))
        calls = (await client.get("/sim/calls")).body
        assert [(call["market"], call["kind"], call["symbol"]) for call in calls] == asked
        assert [call["interval"] for call in calls] == ["1h", "1h", "1h", "1h", None, "1h"]
        assert {(call["status"], call["rows"], call["limit"]) for call in calls} == {(200, 2, "2")}

    with_exchange(scenario)


@pytest.mark.parametrize(
    "kind", ["markPriceKlines", "indexPriceKlines", "premiumIndexKlines", "fundingRate"]
)
def test_spot_has_klines_and_nothing_else(kind: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await raw(client, f"/api/v3/{kind}?symbol=BTCUSDT&pair=BTCUSDT&interval=1h")
        assert answer.status == 404
        assert (await client.get("/sim/calls")).body == []

    with_exchange(scenario)


def test_the_truth_knows_forgotten_contracts_and_ends_with_them() -> None:
    instrument = find(Market.USD_M, "SRMUSDT")
    assert instrument is not None
    assert instrument.ends_ms == utc_ms("2022-11-28 05:00")
    for kind in Kind:
        told = truth(
            "um", "SRMUSDT", "1h", utc_ms("2022-11-01"), NOW_MS, now_ms=NOW_MS, kind=kind
        ).splitlines()
        last_ms = int(told[-1].split(b",")[0])
        assert instrument.ends_ms - 8 * HOUR_MS <= last_ms < instrument.ends_ms + HOUR_MS
    with pytest.raises(KeyError, match="NOSUCH"):
        truth("cm", "NOSUCH", "1h", 0, NOW_MS, now_ms=NOW_MS, kind="indexPriceKlines")

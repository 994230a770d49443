"""The command, a running fleet, and the lake compared with the exchange's truth row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.workers.domain.timestamps import utc_ms
from tests.expected import lake_frame, truth_frame
from tests.harness import Fleet

MONTH = ("--start", "2024-01-01", "--end", "2024-02-01")


@pytest.mark.parametrize(
    ("market", "symbol"), [("spot", "BTCUSDT"), ("um", "ETHUSDT"), ("cm", "BTCUSD_PERP")]
)
def test_a_month_of_each_market_equals_the_exchanges_truth(
    fleet: Fleet, market: str, symbol: str
) -> None:
    told = fleet.download("--market", market, "--symbols", symbol, "--interval", "1m", *MONTH)
    held = lake_frame(Path(fleet.store_url), market, symbol, "1m")
    assert held.equals(truth_frame(market, symbol, "1m", utc_ms(2024, 1), utc_ms(2024, 2)))
    assert told["klines"] == held.height == 44_640
    assert not list(Path(fleet.store_url, "raw").rglob("*.zst"))


def test_a_second_identical_request_fetches_nothing(fleet: Fleet) -> None:
    request = ("--market", "um", "--symbols", "BTCUSDT", "--interval", "1m", *MONTH)
    fleet.download(*request)
    fleet.exchange.ask("DELETE", "calls")
    assert fleet.download(*request)["requests"] == 0
    assert fleet.exchange.calls() == []

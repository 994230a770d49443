"""What tests of the REST client ask it for."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.klines import minutes
from workers.binance.markets import Page
from workers.binance.rest import RestClient
from workers.limits import PoolState, RedisBudget
from workers.model import Interval, Kind, Market, Series

SYMBOLS = {Market.SPOT: "BTCUSDT", Market.USD_M: "BTCUSDT", Market.COIN_M: "BTCUSD_PERP"}
PAGE = Page(minutes(0, 60), 60, 1)
Maker = Callable[..., RestClient]


def series(market: Market = Market.USD_M, interval: Interval = Interval.M1) -> Series:
    return Series(market, Kind.KLINES, interval, SYMBOLS[market])


def ask(client: RestClient, market: Market = Market.USD_M, page: Page = PAGE) -> bytes:
    return client.rows(series(market), page).body


def state(budgets: Callable[[Market], RedisBudget], market: Market = Market.USD_M) -> PoolState:
    return budgets(market).state()

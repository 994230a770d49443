"""What tests of the REST client ask it for."""

from __future__ import annotations

import time
from collections.abc import Callable

from klinefleet.workers.binance.rest import RestClient
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.limits.budget import PoolState
from klinefleet.workers.limits.redis_budget import RedisBudget
from tests.unit.helpers.klines import minutes

SYMBOLS = {Market.SPOT: "BTCUSDT", Market.USD_M: "BTCUSDT", Market.COIN_M: "BTCUSD_PERP"}
PAGE = Page(minutes(0, 60), 60, 1)
#: How far off the exchange's clock may be taken by one Date header, beside how long the call took.
CLOCK_MS = 1_100
Maker = Callable[..., RestClient]


def series(market: Market = Market.USD_M, interval: Interval = Interval.M1) -> Series:
    return Series(market, KLINES, interval, SYMBOLS[market])


def ask(client: RestClient, market: Market = Market.USD_M, page: Page = PAGE) -> bytes:
    return client.rows(series(market), page).body


class Stopwatch:
    """Measures how long a test has run: readings of other clocks may be so much older."""

    def __init__(self) -> None:
        self._began_ms = time.monotonic() * 1000

    @property
    def ms(self) -> float:
        return time.monotonic() * 1000 - self._began_ms

    def assert_closed(self, closed_ms: int, told_ms: int) -> None:
        """Assert that a pool has been closed for `told_ms` since the watch began, to a second."""
        assert told_ms - self.ms <= closed_ms <= told_ms + CLOCK_MS + self.ms


def state(budgets: Callable[[Market], RedisBudget], market: Market = Market.USD_M) -> PoolState:
    return budgets(market).state()

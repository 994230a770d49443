"""The markets, and what differs between them: paths, pools, weights, page sizes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS, Interval
from klinefleet.workers.domain.timestamps import DAY_MS


class Market(StrEnum):
    """Where a symbol trades; the value is how users, keys and URLs spell it."""

    SPOT = "spot"
    USD_M = "um"
    COIN_M = "cm"


FUTURES = frozenset({Market.USD_M, Market.COIN_M})


class Pool(StrEnum):
    """A count of weight per address. USD-M and COIN-M share one (since 2026-06-30)."""

    SPOT = "spot"
    FUTURES = "futures"
    FUNDING = "funding"
    """USD-M funding rates: calls are counted, not weight, and no header says how many."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one market's REST API."""

    pool: Pool
    path: str
    #: Rows of the page that brings the most rows per weight.
    page_rows: int
    #: (rows up to, weight). Where the documented and the measured table disagree, the dearer one.
    weights: tuple[tuple[int, int], ...]
    exchange_info_weight: int
    #: The longest span of one call, None where there is no such rule.
    longest_ms: int | None
    intervals: frozenset[Interval]

    def weight(self, rows: int) -> int:
        """Return the weight of a kline call with `limit=rows`."""
        return next(weight for up_to, weight in self.weights if rows <= up_to)


#: Futures klines, rows to weight. Documented edges are [1,100) [100,500) [500,1000], measured ones
#: 100, 500, 1000.
_FUTURES_WEIGHTS = ((99, 1), (499, 2), (1000, 5), (1500, 10))
_ALL_BUT_SECONDS = frozenset(CANDLE_INTERVALS) - {Interval.S1}

RULES: dict[Market, Rules] = {
    Market.SPOT: Rules(
        Pool.SPOT, "/api/v3", 1000, ((1000, 2),), 20, None, frozenset(CANDLE_INTERVALS)
    ),
    Market.USD_M: Rules(Pool.FUTURES, "/fapi/v1", 499, _FUTURES_WEIGHTS, 1, None, _ALL_BUT_SECONDS),
    Market.COIN_M: Rules(
        Pool.FUTURES, "/dapi/v1", 499, _FUTURES_WEIGHTS, 1, 200 * DAY_MS, _ALL_BUT_SECONDS
    ),
}


#: 500 calls per address in five minutes are allowed. A fifth of them in each minute is right,
#: however the exchange counts.
FUNDING_CALLS_A_MINUTE = 100


def check_interval(market: Market, interval: Interval) -> None:
    """Raise RequestError where the market has no such candles."""
    if interval not in RULES[market].intervals:
        raise RequestError(f"market {market} has no interval {interval}")

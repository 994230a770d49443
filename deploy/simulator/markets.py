"""What differs between the markets: paths, pools, row limits, intervals and weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from deploy.simulator.moments import DAY_MS


class Market(StrEnum):
    SPOT = "spot"
    USD_M = "um"
    COIN_M = "cm"


class Pool(StrEnum):
    """Who shares one weight counter: the two futures markets do."""

    SPOT = "spot"
    FUTURES = "futures"


class Bands(StrEnum):
    """Which table prices futures klines: sources disagree about limits of exactly 100 and 500."""

    MEASURED = "measured"
    DOCUMENTED = "documented"


FUTURES_INTERVALS = (
    "1m",
    "3m",
    "5m",
    "15m",
    "30m",
    "1h",
    "2h",
    "4h",
    "6h",
    "8h",
    "12h",
    "1d",
    "3d",
    "1w",
    "1M",
)


@dataclass(frozen=True, slots=True)
class Rules:
    """One market's answer to every question the route handlers ask."""

    market: Market
    path: str
    pool: Pool
    max_limit: int
    exchange_info_weight: int
    intervals: tuple[str, ...] = FUTURES_INTERVALS
    #: Longest span between start and end; None means unbounded.
    max_span_ms: int | None = None
    #: Rows nearest the end are answered, instead of rows nearest the start.
    newest_first: bool = False

    @property
    def is_spot(self) -> bool:
        return self.market is Market.SPOT


RULES = {
    Market.SPOT: Rules(
        Market.SPOT, "/api/v3", Pool.SPOT, 1000, 20, intervals=("1s", *FUTURES_INTERVALS)
    ),
    Market.USD_M: Rules(Market.USD_M, "/fapi/v1", Pool.FUTURES, 1500, 1),
    Market.COIN_M: Rules(
        Market.COIN_M,
        "/dapi/v1",
        Pool.FUTURES,
        1500,
        1,
        max_span_ms=200 * DAY_MS,
        newest_first=True,
    ),
}

DEFAULT_LIMIT = 500
#: Fundings sent where no limit is given, with times and without; and the highest limit allowed.
FUNDING_LIMIT, NEWEST_FUNDING_LIMIT, MAX_FUNDING_LIMIT = 100, 200, 1000
#: Calls for fundings of USD-M that an address may make in five calendar minutes.
FUNDING_CALLS, FUNDING_MINUTES = 500, 5
SPOT_KLINES_WEIGHT = 2
#: Asking for 500 rows by leaving `limit` out costs more than asking for them.
UNSTATED_LIMIT_WEIGHT = 5
TOP_WEIGHT = 10
#: Largest limit that still costs the weight beside it; anything above costs TOP_WEIGHT, refused or
#: not.
BAND_TABLES = {
    Bands.MEASURED: ((100, 1), (500, 2), (1000, 5)),
    Bands.DOCUMENTED: ((99, 1), (499, 2), (1000, 5)),
}


def klines_weight(market: Market, limit_text: str | None, bands: Bands) -> int:
    """Return what a kline call costs, judged by its `limit` parameter as it was sent."""
    if market is Market.SPOT:
        return SPOT_KLINES_WEIGHT
    if limit_text is None or not re.fullmatch("[0-9]{1,20}", limit_text):
        return UNSTATED_LIMIT_WEIGHT
    limit = int(limit_text)
    return next((weight for top, weight in BAND_TABLES[bands] if limit <= top), TOP_WEIGHT)

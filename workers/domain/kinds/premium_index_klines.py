"""Candles of the premium index: how far a perpetual is above or below its index, as a ratio."""

from dataclasses import replace

from klinefleet.workers.domain.kinds.candles import CANDLE_LINE, CLOSE_TIME, OPEN_TIME, PRICES
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import FUTURES

#: A premium may be zero or negative.
_PREMIUMS = tuple(replace(price, is_price=False) for price in PRICES)

KIND = PREMIUM_INDEX_KLINES = Kind(
    name="premiumIndexKlines",
    summary="candles of the premium index",
    columns=(OPEN_TIME, *_PREMIUMS, CLOSE_TIME),
    archive_columns=CANDLE_LINE,
    rest_path="/premiumIndexKlines",
    markets=FUTURES,
    is_of_perpetuals=True,
)

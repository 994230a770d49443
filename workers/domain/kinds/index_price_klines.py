"""Candles of a pair's index price: the price at several exchanges, weighted."""

from klinefleet.workers.domain.kinds.candles import CANDLE_LINE, PRICE_COLUMNS
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import FUTURES

KIND = INDEX_PRICE_KLINES = Kind(
    name="indexPriceKlines",
    summary="candles of a pair's index price",
    columns=PRICE_COLUMNS,
    archive_columns=CANDLE_LINE,
    rest_path="/indexPriceKlines",
    markets=FUTURES,
    is_of_pair=True,
)

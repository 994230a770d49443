"""Candles of the mark price, by which futures positions are valued."""

from klinefleet.workers.domain.kinds.candles import CANDLE_LINE, PRICE_COLUMNS
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.markets import FUTURES

KIND = MARK_PRICE_KLINES = Kind(
    name="markPriceKlines",
    summary="candles of the mark price",
    columns=PRICE_COLUMNS,
    archive_columns=CANDLE_LINE,
    rest_path="/markPriceKlines",
    markets=FUTURES,
)

"""Candles of trades."""

from klinefleet.workers.domain.kinds.candles import CANDLE_COLUMNS, CANDLE_LINE
from klinefleet.workers.domain.kinds.declaration import FirstRow, Kind

KIND = KLINES = Kind(
    name="klines",
    summary="candles of trades",
    columns=CANDLE_COLUMNS,
    archive_columns=CANDLE_LINE,
    rest_path="/klines",
    first_row=FirstRow.EXACT,
    is_dated_by_catalog=True,
)

"""The columns that candles of all kinds share."""

from __future__ import annotations

from dataclasses import replace

from klinefleet.workers.domain.kinds.declaration import Aggregate, Column, ColumnType

OPEN_TIME = Column("open_time", ColumnType.TIME)
PRICES = (
    Column("open", aggregate=Aggregate.FIRST, is_price=True),
    Column("high", aggregate=Aggregate.MAX, is_price=True),
    Column("low", aggregate=Aggregate.MIN, is_price=True),
    Column("close", aggregate=Aggregate.LAST, is_price=True),
)
CLOSE_TIME = Column("close_time", ColumnType.TIME)

_AMOUNT = Column("", aggregate=Aggregate.SUM, minimum=0)
_VOLUME = replace(_AMOUNT, name="volume")
_OTHER_AMOUNTS = (
    replace(_AMOUNT, name="quote_volume"),
    replace(_AMOUNT, name="count", type=ColumnType.INT),
    replace(_AMOUNT, name="taker_buy_volume", part_of="volume"),
    replace(_AMOUNT, name="taker_buy_quote_volume", part_of="quote_volume"),
)

#: All that a candle can have.
CANDLE_COLUMNS = (OPEN_TIME, *PRICES, _VOLUME, CLOSE_TIME, *_OTHER_AMOUNTS)
#: A candle in REST's arrays and in the archive's lines alike; the last column means nothing.
CANDLE_LINE = (*CANDLE_COLUMNS, Column("ignore", ColumnType.TEXT))
#: Candles of prices that nobody trades at. The exchange fills the volumes with zeros, and the count
#: of trades with a placeholder that differs between REST and the archive: these are left out.
PRICE_COLUMNS = (OPEN_TIME, *PRICES, CLOSE_TIME)

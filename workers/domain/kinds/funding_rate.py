"""Funding: what one side of a perpetual pays the other, every few hours.

Only REST has the mark price, only the archive the hours: an event is put together from both.
"""

from klinefleet.workers.domain.kinds.declaration import (
    Column,
    ColumnType,
    FirstRow,
    Kind,
    PageRule,
    RestRows,
)
from klinefleet.workers.domain.markets import FUTURES, Market, Pool
from klinefleet.workers.domain.timestamps import MINUTE_MS

_TIME = Column("calc_time", ColumnType.TIME, rest_field="fundingTime")
_HOURS = Column("funding_interval_hours", ColumnType.INT, may_be_null=True, minimum=1)
_RATE = Column("last_funding_rate", rest_field="fundingRate")
_MARK_PRICE = Column("mark_price", rest_field="markPrice", may_be_null=True, is_price=True)

KIND = FUNDING_RATE = Kind(
    name="fundingRate",
    summary="funding rates, which have no interval",
    columns=(_TIME, _HOURS, _RATE, _MARK_PRICE),
    archive_columns=(_TIME, _HOURS, _RATE),
    rest_path="/fundingRate",
    markets=FUTURES,
    rest_rows=RestRows.OBJECTS,
    is_of_perpetuals=True,
    has_interval=False,
    has_daily_files=False,
    # Made for eight-hourly events: a call has room for one every four hours.
    pages=PageRule(limit=1000, expected=500, weight=1),
    # On USD-M calls are counted, apart from weight, and no header says how many.
    pools={Market.USD_M: Pool.FUNDING},
    # An answer is believed up to a minute before the exchange's clock, known to some seconds.
    settle_ms=75_000,
    # Times carry some milliseconds of jitter; events are hours apart.
    jitter_ms=MINUTE_MS,
    first_row=FirstRow.OF_KLINES,
)

"""Rows as several sources give them."""

from __future__ import annotations

import polars as pl

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.sources.consensus import SourceRows
from klinefleet.workers.sources.policy import Mode, Policy
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, frame, minutes, opens

BOTH, FILES = Policy(Mode.AUTO, 40.0), Policy(Mode.ARCHIVE, 40.0)
FORGOTTEN = Policy(Mode.AUTO, 40.0, has_rest=False)
NONE = no_rows(KLINES)
TEN = minutes(0, 10)


def source_rows(
    source: Source,
    span: Span = TEN,
    *,
    price: str = "1",
    lacks: range = range(0),
    odd: int | None = None,
) -> SourceRows:
    """Return rows as one source has them.

    Without the minutes it `lacks`, and with minute `odd` at another price.
    """
    times = [at for n, at in enumerate(opens(span)) if n not in lacks]
    rows = frame(times, price=price)
    if odd is not None:
        at = pl.col("open_time").dt.timestamp("ms") == span.start_ms + odd * MINUTE_MS
        rows = rows.with_columns(open=pl.when(at).then(pl.lit(9.0)).otherwise("open"))
    return SourceRows(source, span, rows)


def series(interval: Interval) -> Series:
    return Series(Market.USD_M, KLINES, interval, "BTCUSDT")


def funding(
    source: Source,
    rate: float,
    *,
    jitter_ms: int = 0,
    hours: int | None = None,
    mark: float | None = None,
) -> SourceRows:
    event = [[JANUARY_MS + jitter_ms, hours, rate, mark]]
    wire = {
        "calc_time": pl.Int64(),
        "funding_interval_hours": pl.Int64(),
        "rate": pl.Float64(),
        "mark": pl.Float64(),
    }
    rows = pl.DataFrame(event, schema=wire, orient="row").rename(
        {"rate": "last_funding_rate", "mark": "mark_price"}
    )
    return SourceRows(source, JANUARY.span, rows.cast(dict(schema_of(FUNDING_RATE))))  # type: ignore[arg-type]

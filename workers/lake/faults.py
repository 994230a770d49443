"""What can be wrong with a partition, and how a fault is shown to people and in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from klinefleet.workers.domain.spans import Span

#: Stretches of wrong rows that are faults of their own; of more, one fault spans them all.
MAX_STRETCHES = 20
#: Rows whose values a fault shows.
SHOWN_ROWS = 3


class What(StrEnum):
    """The names of all faults."""

    DAMAGED = "damaged file"
    FOOTER = "damaged footer"
    SCHEMA = "schema drift"
    COVERAGE = "coverage outside the period"
    ROWS = "rows lost or added"
    CHECKSUM = "values not those that were proved"
    MISSING = "value missing or not finite"
    DUPLICATES = "duplicate rows"
    DISORDER = "rows out of order"
    PERIOD = "rows outside the period"
    UNCOVERED = "rows outside covered time"
    GAP = "gap that is not the exchange's"
    PRICE = "price not positive"
    OHLC = "high or low out of bounds"
    NEGATIVE = "negative volume or count"
    TAKER = "taker volume over volume"
    CLOSE = "close time out of bounds"
    DIFFERS = "differs from the source"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a partition, in one stretch of its time."""

    key: str
    what: What
    span: Span | None
    """The time of the wrong rows; None if no part of the partition can be trusted."""
    rows: int
    detail: str

    def __str__(self) -> str:
        where = "whole partition" if self.span is None else str(self.span)
        return f"{self.key}: {self.what}, {self.rows:,} rows, {where}: {self.detail}"

    def facts(self) -> dict[str, object]:
        """Return it as plain values, times in ms UTC."""
        span = None if self.span is None else [self.span.start_ms, self.span.end_ms]
        return {
            "key": self.key,
            "what": str(self.what),
            "span": span,
            "rows": self.rows,
            "told": self.detail,
        }

"""The open times of candles, in equal steps or months, as arithmetic on whole columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS, Interval
from klinefleet.workers.domain.schema import MOMENT
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS

#: Steps that are not the exchange's: 7m, 90s, 10d. They are counted from the epoch.
_STEP = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}


@dataclass(frozen=True, slots=True)
class CandleGrid:
    """Open times every `step_ms` from `anchor_ms` on; with no step, at the start of each month."""

    step_ms: int
    anchor_ms: int = 0

    @classmethod
    def of(cls, interval: Interval) -> CandleGrid:
        """Return the grid of the exchange's interval: weeks open on Mondays, 1M on the first of a
        month.
        """
        if interval is Interval.MO1:
            return cls(0)
        return cls(interval.step_ms, interval.ceil(0) if interval is Interval.W1 else 0)

    @classmethod
    def parse(cls, text: str) -> CandleGrid:
        """Return the grid of one of the exchange's intervals, or of any number of s, m, h or d;
        else RequestError.
        """
        if text in CANDLE_INTERVALS:
            return cls.of(Interval(text))
        found = _STEP.fullmatch(text)
        if not found:
            raise RequestError(
                f"no interval {text!r}: one of {', '.join(CANDLE_INTERVALS)}, or a number of s, "
                "m, h, d"
            )
        return cls(int(found[1]) * _UNITS_MS[found[2]])

    def is_made_of(self, finer: CandleGrid) -> bool:
        """Return whether each candle here is some whole candles of `finer`."""
        if not finer.step_ms or self.step_ms % finer.step_ms:
            return self == finer
        # Weeks and months begin at a midnight: what is finer has to open at every one.
        is_plain = self.step_ms and self.anchor_ms == finer.anchor_ms
        return bool(is_plain) or (DAY_MS % finer.step_ms == 0 and finer.anchor_ms == 0)

    def floor(self, times: pl.Expr) -> pl.Expr:
        """Return the open times of the candles that hold the moments."""
        if not self.step_ms:
            return times.dt.truncate("1mo")
        ms = times.dt.timestamp("ms")
        return (ms - (ms - self.anchor_ms) % self.step_ms).cast(MOMENT)

    def next(self, opens: pl.Expr) -> pl.Expr:
        """Return the open times that follow those."""
        return (
            opens.dt.offset_by("1mo")
            if not self.step_ms
            else opens + pl.duration(milliseconds=self.step_ms)
        )

    def ceil_ms(self, ms: int) -> int:
        """Return the first open time at or after `ms`."""
        if not self.step_ms:
            return Interval.MO1.ceil(ms)
        return ms + (self.anchor_ms - ms) % self.step_ms

    def floor_ms(self, ms: int) -> int:
        """Return the open time of the candle that holds the moment `ms`."""
        return (
            Interval.MO1.floor(ms)
            if not self.step_ms
            else ms - (ms - self.anchor_ms) % self.step_ms
        )

    def opens(self, span: Span) -> pl.Series:
        """Return the open times in `span`, ms UTC."""
        first = self.ceil_ms(span.start_ms)
        if self.step_ms:
            return pl.int_range(first, span.end_ms, self.step_ms, eager=True)
        count = Interval.MO1.opens(span.start_ms, span.end_ms)
        return pl.Series([Interval.MO1.advance(first, n) for n in range(count)], dtype=pl.Int64)

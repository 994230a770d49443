"""Before a run ends, what it should hold is compared with what the lake covers, as the planner's
own store has it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from klinefleet.tasks.planning.dispatch import Dispatch
from klinefleet.tasks.planning.holdings import Holdings, SeriesHoldings
from klinefleet.tasks.planning.led import LedRun
from klinefleet.tasks.runs.records import Level, Record, failures_by_series
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.series import Block, Series, missing
from klinefleet.workers.domain.spans import Span

logger = logging.getLogger(__name__)
#: Times that a block is put under way once more since the lake lacks time of it that is not
#: recorded as failed.
ONCE_MORE = 1


class Ending:
    """Holds one run's end to the lake."""

    def __init__(self, led: LedRun, dispatch: Dispatch) -> None:
        self._led = led
        self._dispatch = dispatch

    def settle(self) -> bool:
        """Return whether the lake holds all that was wanted, or what it lacks is recorded as
        failed.

        What is neither is put under way once more; what is neither after that is recorded as
        failed. Only series of which the run put something under way are compared: of the others all
        was held when they were planned.
        """
        led = self._led
        touched = led.runs.blocks.touched(led.run)
        symbols = [symbol for symbol in led.request.symbols if touched is None or symbol in touched]
        holdings = Holdings(led.services, replace(led.request, symbols=tuple(symbols)))
        failed, is_settled = failures_by_series(led.runs.records(led.run)), True
        for symbol in symbols:
            series = Series(led.request.market, led.request.kind, led.request.interval, symbol)
            held = led.held(holdings, series)
            if held is None:
                continue
            wanted = led.wanted(held)
            self._take_back(held, failed.get(series, []))
            named = [record.span or led.request.span for record in failed.get(series, [])]
            for block, parts in self._lacking(held, wanted, named):
                is_settled = (
                    self._settle_block(block, parts, block.span.clip(wanted), held) and is_settled
                )
        return is_settled

    def _lacking(
        self, held: SeriesHoldings, wanted: Span, named: list[Span]
    ) -> Iterator[tuple[Block, list[Span]]]:
        """Yield each block with the wanted time that the lake lacks, and that is not recorded as
        failed.
        """
        series = held.series
        if self._led.request.revise:
            for block in series.blocks(wanted):
                anew = [window.span for window in held.reissued(block, block.span.clip(wanted))]
                if left := spans.without(anew, named):
                    yield block, left
            return
        lacking = [
            gap
            for gap in spans.without(missing(series, held.lake, wanted), named)
            if _opens(series, gap)
        ]
        for block in dict.fromkeys(block for gap in lacking for block in series.blocks(gap)):
            yield block, [part for part in spans.clip(lacking, block.span) if _opens(series, part)]

    def _settle_block(
        self, block: Block, parts: list[Span], wanted: Span, held: SeriesHoldings
    ) -> bool:
        """Put a block under way once more; return True, with its parts recorded as failed, where it
        was before.
        """
        led, name = self._led, f"once more {block}"
        if led.runs.blocks.attempts(led.run, name) >= ONCE_MORE:
            told = (
                "NotHeld: fetched and compacted twice, and not in the lake at "
                f"{led.services.settings.store_url}: the "
                "exchange's answers end before it, or a worker's KLINES_STORE_URL names another "
                "store"
            )
            led.runs.record(
                led.run, *(Record(Level.FAILED, told, block.series, part) for part in parts)
            )
            return True
        logger.warning(
            "plan %s: %s lacks %s after all: once more", led.run, block, ", ".join(map(str, parts))
        )
        if led.runs.blocks.claim(led.run, block):
            self._dispatch.put_under_way(block, wanted, held, counted_as=name)
        return False

    def _take_back(self, held: SeriesHoldings, failed: list[Record]) -> None:
        """Turn failures whose time the lake holds all the same into reports."""
        moot = [
            record
            for record in failed
            if record.span
            and not missing(held.series, held.lake, record.span)
            and not self._led.request.revise
        ]
        told = (
            replace(record, level=Level.REPORT, text=f"{record.text}; it is held all the same")
            for record in moot
        )
        self._led.runs.record(self._led.run, *told, instead_of=moot)


def _opens(series: Series, span: Span) -> bool:
    return series.interval.opens(span.start_ms, span.end_ms) > 0

"""klines.compact: decode → validate → merge → publish → delete raw, one block at a time and no more in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl
from celery.exceptions import Reject
from redis import RedisError

from tasks.messages import send_fetch
from tasks.progress import Runs
from workers import spans
from workers.app import app
from workers.binance.decode import decode_pages
from workers.errors import BadAnswer, FleetError, RawDamaged, StoreFault
from workers.lake.raw import RawEntry
from workers.model import Block, Window, months_of
from workers.toolbox import Toolbox

logger = logging.getLogger(__name__)

#: Times a block may be handed back because the store failed, and a window fetched again because its raw object was bad.
HAND_BACKS, FETCHED_AGAIN = 5, 3


@app.task(name="klines.compact", bind=True)  # type: ignore[untyped-decorator]
def compact(self: Any, run: str, block: str) -> None:
    """Move a block's raw objects into its partitions; twice equals once."""
    tools: Toolbox = self.app.toolbox
    try:
        with tools.heart.lease(f"compact|{block}") as is_mine:
            if is_mine:
                compact_block(tools, run, Block.parse(block))
    except RedisError as error:
        logger.warning("compact %s: handed back: %s", block, error)
        tools.stop.wait(1.0)
        raise Reject(error, requeue=True) from error


def compact_block(tools: Toolbox, run: str, block: Block) -> None:
    """Compact what the raw zone holds of a block and say so; a damaged raw object is fetched again."""
    runs = Runs(tools.redis)
    try:
        entries = tools.raw.entries(block)
        frames, damaged = _load(tools, entries)
        gained = sum(_merge_months(tools, block, frames))
        if not tools.settings.keep_raw:
            tools.raw.drop(entry for entry, _ in frames)
        again = _fetch_again(runs, run, block, damaged)
        # Only once its window is on the latch again: a compaction that is killed in between must not hide it.
        tools.raw.drop(damaged)
        if again:
            send_fetch(run, again)
            return
        reason = ""
    except FleetError as error:
        if isinstance(error, StoreFault) and runs.try_again(run, str(block), HAND_BACKS):
            raise Reject(error, requeue=True) from error
        logger.error("compact %s failed: %s", block, error.reason)
        gained, reason = 0, error.reason
    runs.close(run, block, gained, reason=reason)


def _fetch_again(runs: Runs, run: str, block: Block, damaged: list[RawEntry]) -> list[Window]:
    """Put the windows of damaged raw objects back on the latch and return them; those tried too often have failed."""
    again = []
    for span in spans.union(entry.span for entry in damaged):
        window = Window(block, span)
        if runs.try_again(run, str(window), FETCHED_AGAIN):
            runs.reopen(run, window)
            again.append(window)
        else:
            runs.fail(run, str(block), f"RawDamaged: what came of {span} was damaged {FETCHED_AGAIN} times")
    return again


def _load(tools: Toolbox, entries: Iterable[RawEntry]) -> tuple[list[tuple[RawEntry, pl.DataFrame]], list[RawEntry]]:
    """Return the raw objects with their candles, and those that do not hold what they should."""
    frames, damaged = [], []
    for entry in entries:
        try:
            pages = tools.raw.load(entry)
            if pages is not None:
                frames.append((entry, _validated(decode_pages(pages), entry)))
        except (RawDamaged, BadAnswer) as error:
            logger.error("compact %s: %s", entry.block, error.reason)
            damaged.append(entry)
    return frames, damaged


def _validated(rows: pl.DataFrame, entry: RawEntry) -> pl.DataFrame:
    """Return the candles that are final; BadAnswer where one stands before the window or out of order.

    Candles after the span's end were still forming when they were fetched.
    """
    opened = rows["open_time"].dt.timestamp("ms")
    if rows.height and (opened[0] < entry.span.start_ms or not opened.is_sorted() or opened.n_unique() < rows.height):
        raise BadAnswer(f"{entry.key}: candles out of order or before {entry.span}; it will be fetched again")
    return rows.filter(opened < entry.span.end_ms)


def _merge_months(tools: Toolbox, block: Block, frames: list[tuple[RawEntry, pl.DataFrame]]) -> Iterator[int]:
    """Publish each month that the frames speak of; yields the rows it gained."""
    if not frames:
        return
    rows = pl.concat(frame for _, frame in frames)
    for month, bounds in months_of(block.span):
        covered = spans.clip((entry.span for entry, _ in frames), bounds)
        if covered:
            opened = rows["open_time"].dt.timestamp("ms")
            of_month = rows.filter((opened >= bounds.start_ms) & (opened < bounds.end_ms))
            yield tools.partitions.merge(block.series, month, of_month, covered)

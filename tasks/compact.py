"""klines.compact: decode → validate → settle → merge → publish → delete raw, one block at a time, no more in memory.

Nothing of a block is merged while there is somebody to ask about it: a damaged raw object is fetched again, an archive
file that cannot be used is answered for by another source, its gaps are asked of REST, and so are rows that differ.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from celery.exceptions import Reject
from redis import RedisError

from tasks.context import about
from tasks.messages import send_fetch
from tasks.policy import policy_of
from tasks.progress import Runs, compact_lease
from workers import metrics, spans
from workers.app import app
from workers.binance.archive_files import ArchiveFile, member
from workers.binance.decode import decode_archive, decode_pages
from workers.errors import BadAnswer, Failed, FleetError, RawDamaged, StoreFault, Unfit
from workers.lake import keys
from workers.lake.footer import Origin
from workers.lake.raw import RawEntry
from workers.model import Block, Span, Window, months_of
from workers.schema import SCHEMAS, time_column
from workers.sources import Policy, fallback
from workers.toolbox import Toolbox
from workers.verdict import Version, believed, doubts, missing_in, settle

logger = logging.getLogger(__name__)

#: Times a block may be handed back because the store failed, and a window fetched again because its raw object was bad.
HAND_BACKS, FETCHED_AGAIN = 5, 3


@app.task(name="klines.compact", bind=True, throws=(Failed,))  # type: ignore[untyped-decorator]
def compact(self: Any, run: str, block: str) -> None:
    """Move a block's raw objects into its partitions; twice equals once."""
    tools: Toolbox = self.app.toolbox
    parsed, failed = Block.parse(block), ""
    about(run, parsed)
    try:
        with tools.heart.lease(compact_lease(parsed)) as is_mine:
            if is_mine:
                failed = compact_block(tools, run, parsed)
    except RedisError as error:
        logger.warning("compact %s: handed back: %s", block, error)
        tools.stop.wait(1.0)
        raise Reject(error, requeue=True) from error
    if failed:
        raise Failed(failed)


def compact_block(tools: Toolbox, run: str, block: Block) -> str:
    """Compact what the raw zone holds of a block and say so; or have asked again what is not sure yet.

    Returns why it failed for good, which is noted, or ''.
    """
    runs, counts = Runs(tools.redis), Counter[str]()
    try:
        policy = policy_of(tools, run, block.series)
        loaded = _load(tools, tools.raw.entries(block))
        held = _held_against(tools, runs, run, loaded)
        again = [*_fetch_again(runs, run, block, loaded.damaged), *_replaced(runs, run, loaded, policy)]
        again += _once(runs, run, doubts(block, loaded.versions, held, policy))
        if again:
            # Only once they are on the latch: a compaction that is killed in between must not hide them.
            runs.reopen(run, block, again)
            tools.raw.drop([*loaded.damaged, *(entry for entry, _ in loaded.unfit)])
            send_fetch(run, again)
            return ""
        counts = _publish(tools, runs, run, block, loaded, held, policy)
        if not tools.settings.keep_raw:
            tools.raw.drop(entry for entry, _ in loaded.frames)
        tools.raw.drop([*loaded.damaged, *(entry for entry, _ in loaded.unfit)])
        logger.debug("compacted %s: %s", block, dict(counts))
        reason = ""
    except FleetError as error:
        if isinstance(error, StoreFault) and runs.try_again(run, str(block), HAND_BACKS):
            raise Reject(error, requeue=True) from error
        logger.error("compact %s failed: %s", block, error.reason)
        reason = error.reason
    runs.close(run, block, counts, reason=reason)
    metrics.BLOCKS.add(outcome="failed" if reason else "done")
    metrics.ROWS_COMPACTED.add(counts["rows"], market=block.series.market)
    return reason


@dataclass
class Loaded:
    """A block's raw objects: those that decode, and those that do not."""

    frames: list[tuple[RawEntry, pl.DataFrame]] = field(default_factory=list)
    damaged: list[RawEntry] = field(default_factory=list)
    unfit: list[tuple[RawEntry, Unfit]] = field(default_factory=list)

    @property
    def versions(self) -> list[Version]:
        return [Version(entry.source, entry.span, rows) for entry, rows in self.frames]


def _load(tools: Toolbox, entries: Iterable[RawEntry]) -> Loaded:
    loaded = Loaded()
    for entry in entries:
        try:
            bodies = tools.raw.load(entry)
            if bodies is not None:
                loaded.frames.append((entry, _rows(entry, bodies)))
                _count_file(entry, loaded.frames[-1][1].height)
        except Unfit as error:
            logger.warning("compact %s: %s", entry.block, error.reason)
            metrics.RETRIES.add(source="archive", reason=type(error).__name__)
            loaded.unfit.append((entry, error))
        except (RawDamaged, BadAnswer) as error:
            logger.error("compact %s: %s", entry.block, error.reason)
            metrics.RETRIES.add(source="store", reason=type(error).__name__)
            loaded.damaged.append(entry)
    return loaded


def _count_file(entry: RawEntry, rows: int) -> None:
    """Count the rows of a file; those of REST were counted when they came."""
    if entry.source.is_archive:
        metrics.ROWS_FETCHED.add(rows, market=entry.block.series.market, source=entry.source)


def _rows(entry: RawEntry, bodies: list[bytes]) -> pl.DataFrame:
    kind = entry.block.series.kind
    if entry.source.is_archive:
        rows = decode_archive(kind, member(bodies[0], _file(entry).stem))
    else:
        rows = decode_pages(kind, bodies)
    return final(rows, entry)


def final(rows: pl.DataFrame, entry: RawEntry) -> pl.DataFrame:
    """Return the rows of the entry's span; what lies outside was not asked for, or still forming when fetched.

    BadAnswer where rows of REST stand before the window or out of order.
    """
    kind = entry.block.series.kind
    opened = rows[time_column(kind)].dt.timestamp("ms")
    is_page = not entry.source.is_archive and rows.height
    if is_page and (opened[0] < entry.span.start_ms or not opened.is_sorted() or opened.n_unique() < rows.height):
        raise BadAnswer(f"{entry.key}: rows out of order or before {entry.span}; it will be fetched again")
    return rows.filter((opened >= entry.span.start_ms) & (opened < entry.span.end_ms))


def _fetch_again(runs: Runs, run: str, block: Block, damaged: list[RawEntry]) -> list[Window]:
    """Return the windows of damaged raw objects; those tried too often are noted as failed."""
    again = []
    for source, span in {(entry.source, entry.span) for entry in damaged}:
        window = Window(block, span, source)
        if runs.try_again(run, str(window), FETCHED_AGAIN):
            again.append(window)
        else:
            runs.fail(run, str(window), f"RawDamaged: what came of it was damaged {FETCHED_AGAIN} times")
    return again


def _replaced(runs: Runs, run: str, loaded: Loaded, policy: Policy) -> list[Window]:
    """Return what answers for archive files that cannot be used, and report them."""
    instead = []
    for entry, error in loaded.unfit:
        others = fallback(Window(entry.block, entry.span, entry.source), policy)
        by = sorted({str(other.source) for other in others})
        runs.report(run, {_file(entry).key: f"{error.reason}; {' and '.join(by) or 'nothing'} instead"})
        if not others:
            runs.fail(run, str(Window(entry.block, entry.span, entry.source)), error.reason)
        instead += others
    return instead


def _once(runs: Runs, run: str, asked: Iterable[Window]) -> list[Window]:
    """Return the windows that this run has not asked for because of a doubt before; what failed once has failed."""
    return [window for window in asked if runs.try_again(run, f"doubt {window}", 2)]


def _held_against(tools: Toolbox, runs: Runs, run: str, loaded: Loaded) -> pl.DataFrame:
    """Return the held rows that archive files speak of again, where a run revises them; none otherwise."""
    request = runs.request(run)
    if not loaded.frames or request is None or not request.revise:
        series = loaded.frames[0][0].block.series if loaded.frames else None
        return SCHEMAS[series.kind].to_frame() if series else pl.DataFrame()
    block = loaded.frames[0][0].block
    months = {month for entry, _ in loaded.frames for month, _ in months_of(entry.span)}
    held = pl.concat(tools.partitions.rows(block.series, month) for month in sorted(months))
    times = held[time_column(block.series.kind)].dt.timestamp("ms")
    spoken_of = spans.union(entry.span for entry, _ in loaded.frames)
    within = [(times >= span.start_ms) & (times < span.end_ms) for span in spoken_of]
    return held.filter(pl.any_horizontal(within))


def _publish(
    tools: Toolbox, runs: Runs, run: str, block: Block, loaded: Loaded, held: pl.DataFrame, policy: Policy
) -> Counter[str]:
    """Settle what the sources say and publish it month by month; returns what is to be counted."""
    if not loaded.frames:
        return Counter()
    series, versions = block.series, loaded.versions
    verdict, known = settle(series.kind, versions, held), believed(series, versions, policy)
    _report_disputes(tools, runs, run, block, verdict.disputed)
    _report_gaps(runs, run, block, loaded, known, policy)
    from_files = sum(rows.height for entry, rows in loaded.frames if entry.source.is_archive)
    counts = Counter(klines=from_files, file_klines=from_files)
    opened = verdict.rows[time_column(series.kind)].dt.timestamp("ms")
    for month, bounds in months_of(block.span):
        if covered := spans.clip(known, bounds):
            of_month = verdict.rows.filter((opened >= bounds.start_ms) & (opened < bounds.end_ms))
            merged = tools.partitions.merge(series, month, of_month, covered, _origins(loaded, covered))
            counts += Counter(rows=merged.gained, changed=merged.changed)
            if merged.changed:
                runs.report(
                    run,
                    {f"{series}/{month} in the lake": f"{merged.changed:,} rows that were held have other values now"},
                )
    return counts


def _origins(loaded: Loaded, covered: list[Span]) -> Iterator[Origin]:
    """Yield where the rows of `covered` came from; REST last, it answers for the gaps of the files."""
    for entry, _ in sorted(loaded.frames, key=lambda frame: not frame[0].source.is_archive):
        for span in spans.clip(covered, entry.span):
            content = entry.content if entry.source.is_archive else ""
            yield Origin(span, entry.source, entry.etag, content)


def _report_disputes(tools: Toolbox, runs: Runs, run: str, block: Block, disputed: pl.DataFrame) -> None:
    """Keep every version of the rows on which sources differ, and say how many there are and who was believed."""
    if not disputed.height:
        return
    body = disputed.write_csv().encode()
    series = block.series
    name = f"{series.market}-{series.kind}-{series.interval}-{series.symbol}-{block.period}"
    key = keys.report(run, f"{name}-{hashlib.sha256(body).hexdigest()[:8]}.csv")
    tools.files.put(key, body)
    by = " and ".join(sorted(set(disputed.filter("stands")["source"])))
    rows = disputed[time_column(series.kind)].n_unique()
    sources = ", ".join(sorted(set(disputed["source"])))
    runs.report(run, {str(block): f"{rows:,} rows differ between {sources}: {by} stand; all versions in {key}"})


def _report_gaps(runs: Runs, run: str, block: Block, loaded: Loaded, known: list[Span], policy: Policy) -> None:
    """Say what the files lack that nobody else could be asked for, or that nobody else tells."""
    if not policy.is_listed:
        gaps = {gap for version in loaded.versions for gap in missing_in(block.series, version)}
        rows = sum(block.series.interval.opens(gap.start_ms, gap.end_ms) for gap in gaps)
        if rows:
            told = f"{rows:,} rows are not in the archive's files, and REST has forgotten the symbol: believed as it is"
            runs.report(run, {str(block): told})
    asked = spans.union(entry.span for entry, _ in loaded.frames)
    for span in (gap for whole in asked for gap in spans.gaps(known, whole)):
        lacks = f"{block.series.interval.opens(span.start_ms, span.end_ms):,} rows are not in the archive's files"
        if policy.may_rest:
            runs.report(run, {f"{block} {span}": f"{lacks}, and REST failed: they stay missing"})
        else:
            runs.fail(run, f"{block} {span}", f"{lacks}; REST was not to be asked, so they stay missing")


def _file(entry: RawEntry) -> ArchiveFile:
    return ArchiveFile.of(entry.block.series, entry.source, entry.span.start_ms)

"""One compaction: decode → doubts → settle → merge → publish → delete raw.

Nothing of a block is merged while there is somebody to ask about it: a damaged raw object is
fetched again, an archive file that cannot be used is answered for by another source, its gaps are
asked of REST, and so are rows that differ.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable

import polars as pl

from klinefleet.tasks.ingest.raw_rows import Loaded, file_of, load, origins
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.blocks import Again
from klinefleet.tasks.runs.policy import policy_of
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError, LeaseLost, StoreFault
from klinefleet.workers.domain.intervals import months_of
from klinefleet.workers.domain.redis_keys import compact_lease
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Block, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footer import Footer
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import fallback
from klinefleet.workers.sources.consensus import (
    missing_in,
    resolve_conflicts,
    trusted_spans,
    windows_to_recheck,
)
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.storage.objects import StoredObject
from klinefleet.workers.support import metrics

logger = logging.getLogger(__name__)

#: Times a block may be handed back because the store failed, and a window fetched again because its
#: raw object was bad.
HAND_BACKS, FETCHED_AGAIN = 5, 3


def compact_block(services: Services, run: str, block: Block) -> str:
    """Compact what the raw zone holds of a block and say so; or have asked again what is not sure
    yet.

    Returns why it failed for good, which is noted, or ''. Does nothing where another is at it, or
    the block is not to be compacted any more. StoreFault where the store may answer at a later try.
    """
    runs = Runs(services.redis)
    with services.leases.hold(compact_lease(block)) as lease:
        if lease is None or not runs.blocks.compacting(run, block, lease.fence):
            return ""
        try:
            return _Compaction(services, runs, run, block, lease).work()
        except LeaseLost as error:
            logger.warning("compact %s: %s", block, error)
            return ""


class _Compaction:
    """One compaction of one block, by one lease."""

    def __init__(
        self, services: Services, runs: Runs, run: str, block: Block, lease: Lease
    ) -> None:
        self._services, self._runs, self._run, self._block, self._lease = (
            services,
            runs,
            run,
            block,
            lease,
        )
        self._records: list[Record] = []

    def work(self) -> str:
        """Compact the block or have asked again what is not sure; returns why it failed for good,
        or ''.
        """
        services, runs, run, block = self._services, self._runs, self._run, self._block
        counts, reason = Counter[str](), ""
        try:
            policy = policy_of(services, run, block.series)
            loaded = load(services, services.raw_zone.entries(block))
            held = _held_against(services, runs, run, loaded)
            unfit = [*loaded.damaged, *(entry for entry, _ in loaded.unfit)]
            sent_us, first = self._reopen(loaded, held, policy)
            if first:
                runs.record(run, *self._records)
                # Only once they are waited for, since a compaction killed in between must not hide
                # them, and before they are sent for: what is fetched again may have the same name.
                self._drop(unfit)
                enqueue.send_fetch(run, first, sent_us)
                return ""
            counts = self._publish(loaded, held, policy)
            if not services.settings.keep_raw:
                self._drop(entry for entry, _ in loaded.frames)
            self._drop(unfit)
            logger.debug("compacted %s: %s", block, dict(counts))
        except LeaseLost:
            raise
        except FleetError as error:
            if isinstance(error, StoreFault) and runs.blocks.record_attempt(
                run, str(block), HAND_BACKS
            ):
                raise
            logger.error("compact %s failed: %s", block, error.reason)
            reason = error.reason
            self._records.append(Record.of_block(Level.FAILED, block, reason))
        if runs.blocks.close(run, block, self._lease.fence, counts, records=self._records):
            metrics.BLOCKS.add(outcome="failed" if reason else "done")
        return reason

    def _reopen(
        self, loaded: Loaded, held: pl.DataFrame, policy: Policy
    ) -> tuple[int, list[Window]]:
        """Have the block wait for what must be fetched first, in place of what is damaged, unfit or
        doubted.

        Returns the Redis µs at which the first counts as sent, and the windows. What was asked for
        too often is told as failed; what is doubted is asked once.
        """
        block = self._block
        damaged = sorted({(entry.source, entry.span) for entry in loaded.damaged})
        unusable = [
            Again(window, str(window), FETCHED_AGAIN)
            for window in (Window(block, s, of) for of, s in damaged)
        ]
        for window in self._instead_of_unfit(loaded, policy):
            unusable.append(Again(window, f"instead {window}", FETCHED_AGAIN))
        asked = list(unusable)
        asked += [
            Again(window, f"doubt {window}", 2)
            for window in windows_to_recheck(block, loaded.versions, held, policy)
        ]
        if not asked:
            return 0, []
        self._lease.check()
        sent_us, accepted = self._runs.blocks.reopen(self._run, block, self._lease.fence, asked)
        for one, is_accepted in zip(unusable, accepted, strict=False):
            if not is_accepted:
                told = f"RawDamaged: what came of it could not be used {FETCHED_AGAIN} times"
                self._records.append(Record.of_window(Level.FAILED, one.window, told))
        return sent_us, [
            one.window for one, is_accepted in zip(asked, accepted, strict=True) if is_accepted
        ]

    def _instead_of_unfit(self, loaded: Loaded, policy: Policy) -> list[Window]:
        """Return what answers for archive files that cannot be used, and note them."""
        instead = []
        for entry, error in loaded.unfit:
            window = Window(entry.block, entry.span, entry.source)
            others = fallback(window, policy)
            by = " and ".join(sorted({str(other.source) for other in others})) or "nothing"
            self._report(f"{error.reason}; {by} instead", entry.span, file_of(entry).key)
            if not others:
                self._records.append(Record.of_window(Level.FAILED, window, error.reason))
            instead += others
        return instead

    def _publish(self, loaded: Loaded, held: pl.DataFrame, policy: Policy) -> Counter[str]:
        """Settle what the sources say and publish it month by month; returns what is to be counted."""
        if not loaded.frames:
            return Counter()
        series, versions = self._block.series, loaded.versions
        verdict, known = (
            resolve_conflicts(series.kind, versions, held),
            trusted_spans(series, versions, policy),
        )
        self._report_disputes(verdict.disputed)
        self._report_gaps(loaded, known, policy)
        from_files = sum(rows.height for entry, rows in loaded.frames if entry.source.is_archive)
        counts = Counter(klines=from_files, file_klines=from_files)
        opened, published = (
            verdict.rows[series.kind.time_column].dt.timestamp("ms"),
            list[tuple[StoredObject, Footer]](),
        )
        for month, bounds in months_of(self._block.span):
            if covered := spans.clip(known, bounds):
                of_month = verdict.rows.filter(
                    (opened >= bounds.start_ms) & (opened < bounds.end_ms)
                )
                self._lease.check()
                merged = self._services.partitions.merge(
                    series, month, of_month, covered, origins(loaded, covered)
                )
                self._runs.count(self._run, {"rows": merged.gained, "changed": merged.changed})
                metrics.ROWS_COMPACTED.add(merged.gained, market=series.market)
                published += [merged.published] if merged.published else []
                if merged.changed:
                    self._report(
                        f"{merged.changed:,} rows that were held have other values now",
                        bounds,
                        "lake",
                    )
        self._services.coverage.remember(published)
        return counts

    def _report_disputes(self, disputed: pl.DataFrame) -> None:
        """Keep every version of the rows on which sources differ, and say how many there are and
        who was believed.
        """
        if not disputed.height:
            return
        body, block, series = disputed.write_csv().encode(), self._block, self._block.series
        name = f"{series.market}-{series.kind}-{series.interval}-{series.symbol}-{block.period}"
        key = keys.report(self._run, f"{name}-{hashlib.sha256(body).hexdigest()[:8]}.csv")
        self._services.store.put(key, body)
        by = " and ".join(sorted(set(disputed.filter("stands")["source"])))
        rows = disputed[series.kind.time_column].n_unique()
        sources = ", ".join(sorted(set(disputed["source"])))
        told = f"{rows:,} rows differ between {sources}: {by} stand; all versions in {key}"
        self._report(told, block.span, "sources")

    def _report_gaps(self, loaded: Loaded, known: list[Span], policy: Policy) -> None:
        """Say what the files lack that nobody else could be asked for, or that nobody else tells."""
        block, series = self._block, self._block.series
        opens = series.interval.opens
        if not policy.is_listed:
            gaps = {gap for version in loaded.versions for gap in missing_in(series, version)}
            if rows := sum(opens(gap.start_ms, gap.end_ms) for gap in gaps):
                told = (
                    f"{rows:,} rows are not in the archive's files, and REST has forgotten the "
                    "symbol"
                )
                self._report(f"{told}: believed as it is", block.span, "archive")
        asked = spans.union(entry.span for entry, _ in loaded.frames)
        for span in (gap for whole in asked for gap in spans.gaps(known, whole)):
            lacks = f"{opens(span.start_ms, span.end_ms):,} rows are not in the archive's files"
            if policy.may_rest:
                self._report(f"{lacks}, and REST failed: they stay missing", span, "archive")
            else:
                told = f"{lacks}; REST was not to be asked, so they stay missing"
                self._records.append(Record(Level.FAILED, told, series, span))

    def _report(self, text: str, span: Span, source: str = "") -> None:
        self._records.append(Record(Level.REPORT, text, self._block.series, span, source))

    def _drop(self, entries: Iterable[RawEntry]) -> None:
        """Delete raw objects, where they are still ours to delete."""
        self._lease.check()
        self._services.raw_zone.drop(entries)


def _held_against(services: Services, runs: Runs, run: str, loaded: Loaded) -> pl.DataFrame:
    """Return the held rows that archive files speak of again, where a run revises them; none
    otherwise.
    """
    request = runs.request(run)
    if not loaded.frames or request is None or not request.revise:
        series = loaded.frames[0][0].block.series if loaded.frames else None
        return no_rows(series.kind) if series else pl.DataFrame()
    block = loaded.frames[0][0].block
    months = {month for entry, _ in loaded.frames for month, _ in months_of(entry.span)}
    held = pl.concat(services.partitions.rows(block.series, month) for month in sorted(months))
    times = held[block.series.kind.time_column].dt.timestamp("ms")
    spoken_of = spans.union(entry.span for entry, _ in loaded.frames)
    within = [(times >= span.start_ms) & (times < span.end_ms) for span in spoken_of]
    return held.filter(pl.any_horizontal(within))

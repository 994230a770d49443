"""Compacts one partition: decodes its raw objects, settles conflicts, publishes, deletes them.

Nothing of a partition is merged while another source can still be fetched for it. A damaged raw
object is fetched again; another source replaces an unusable archive file; REST is fetched for the
gaps of archive files and for rows that differ.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable

import polars as pl

from klinefleet.tasks.ingest.raw_rows import Loaded, answers, archive_file, load_raw_objects
from klinefleet.tasks.ingest.replacement import replace_file
from klinefleet.tasks.runs import enqueue
from klinefleet.tasks.runs.partitions import Refetch
from klinefleet.tasks.runs.policy import policy_for_run
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError, LeaseLost, StoreFault
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.redis_keys import compact_lease
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.consensus import (
    missing_in,
    resolve_conflicts,
    trusted_spans,
    windows_to_recheck,
)
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.support import metrics

logger = logging.getLogger(__name__)

#: Attempts at a partition while the store fails. After the last one the partition counts as failed.
MAX_ATTEMPTS = 5
#: Fetches of a window whose raw object cannot be used, the first included.
MAX_FETCHES = 3
#: The second recheck of a window is refused: its source has answered already.
_RECHECK_LIMIT = 2


def compact_partition(services: Services, run: str, partition: Partition) -> str:
    """Compact a partition's raw objects; return why it failed for good, or ''.

    If some time must be fetched first, its windows are sent instead. Nothing is done if another
    worker has the partition's lease, or the partition is not to be compacted any more. A failure is
    recorded in the run. StoreFault where the store may recover by a later try.
    """
    runs = Runs(services.redis)
    with services.leases.hold(compact_lease(partition)) as lease:
        if lease is None or not runs.partitions.begin_compaction(run, partition, lease.fence):
            return ""
        try:
            return _Compaction(services, runs, run, partition, lease).work()
        except LeaseLost as error:
            logger.warning("compact %s: %s", partition, error)
            return ""


class _Compaction:
    """One compaction of one partition, under one lease."""

    def __init__(
        self, services: Services, runs: Runs, run: str, partition: Partition, lease: Lease
    ) -> None:
        self._services = services
        self._runs = runs
        self._run = run
        self._partition = partition
        self._lease = lease
        self._records: list[Record] = []
        request = runs.request(run)
        self._is_revision = request is not None and request.revise

    def work(self) -> str:
        """Compact the partition, or send what must be fetched first; return why it failed."""
        counts, reason = Counter[str](), ""
        try:
            published = self._compact()
            if published is None:
                return ""
            counts = published
            logger.debug("compacted %s: %s", self._partition, dict(counts))
        except LeaseLost:
            raise
        except FleetError as error:
            if isinstance(error, StoreFault) and self._may_requeue():
                raise
            reason = error.reason
            logger.error("compact %s failed: %s", self._partition, reason)
            self._records.append(Record.for_partition(Level.FAILED, self._partition, reason))
        if self._runs.partitions.close(
            self._run, self._partition, self._lease.fence, counts, records=self._records
        ):
            metrics.PARTITIONS.add(outcome="failed" if reason else "done")
        return reason

    def _may_requeue(self) -> bool:
        return self._runs.partitions.record_attempt(self._run, str(self._partition), MAX_ATTEMPTS)

    def _compact(self) -> Counter[str] | None:
        """Publish the partition and return its counts; None where windows had to be sent first."""
        services, run = self._services, self._run
        services.identity.require_current()
        policy = policy_for_run(services, run, self._partition.series)
        loaded = load_raw_objects(services, services.raw_zone.entries(self._partition))
        held = self._held_rows(loaded)
        unusable = [*loaded.damaged, *(entry for entry, _ in loaded.unusable)]
        sent_us, windows = self._reopen(loaded, held, policy)
        if windows:
            self._runs.record(run, *self._records)
            # The partition waits for the windows by now: a compaction that is killed here hides
            # none. They are sent after the deletion, since a raw object that is fetched again may
            # have the same name.
            self._delete(unusable)
            enqueue.send_fetch(run, windows, sent_us)
            return None
        counts = self._publish(loaded, held, policy)
        self._clear(loaded)
        self._delete(unusable)
        return counts

    def _reopen(
        self, loaded: Loaded, held: pl.DataFrame, policy: Policy
    ) -> tuple[int, list[Window]]:
        """Have the partition wait for the windows that must be fetched first.

        These replace damaged and unusable raw objects, and recheck doubtful rows. Returns the
        Redis µs at which the first counts as sent, and the windows. A window that has been fetched
        too often is recorded as failed.
        """
        partition = self._partition
        damaged = sorted({(entry.source, entry.span) for entry in loaded.damaged})
        again = [Window(partition, span, source) for source, span in damaged]
        replacing = [Refetch(window, str(window), MAX_FETCHES) for window in again]
        replacing += [
            Refetch(window, f"instead {window}", MAX_FETCHES)
            for window in self._replacements(loaded, policy)
        ]
        doubtful = windows_to_recheck(partition, loaded.versions, held, policy)
        wanted = [*replacing, *(Refetch(one, f"doubt {one}", _RECHECK_LIMIT) for one in doubtful)]
        if not wanted:
            return 0, []
        self._lease.check()
        sent_us, accepted = self._runs.partitions.reopen(
            self._run, partition, self._lease.fence, wanted
        )
        for one, is_accepted in zip(replacing, accepted, strict=False):
            if not is_accepted:
                text = f"RawDamaged: fetched {MAX_FETCHES} times, never usable"
                self._records.append(Record.for_window(Level.FAILED, one.window, text))
        return sent_us, [
            one.window for one, is_accepted in zip(wanted, accepted, strict=True) if is_accepted
        ]

    def _replacements(self, loaded: Loaded, policy: Policy) -> list[Window]:
        """Return the windows that replace unusable archive files, and record the files."""
        replacements = list[Window]()
        for entry, error in loaded.unusable:
            window = Window(entry.partition, entry.span, entry.source)
            others, records = replace_file(window, archive_file(entry).key, error.reason, policy)
            self._records += records
            replacements += others
        return replacements

    def _publish(self, loaded: Loaded, held: pl.DataFrame, policy: Policy) -> Counter[str]:
        """Settle conflicts and publish the rows; return the counts."""
        if not loaded.frames:
            return Counter()
        series, versions = self._partition.series, loaded.versions
        resolution = resolve_conflicts(series.kind, versions, held)
        trusted = trusted_spans(series, versions, policy)
        self._report_conflicts(resolution.conflicts)
        self._report_gaps(loaded, trusted, policy)
        if covered := spans.clip(trusted, self._partition.span):
            rows = _within(series.kind, resolution.rows, [self._partition.span])
            self._merge(rows, covered, loaded)
        from_files = sum(rows.height for entry, rows in loaded.frames if entry.source.is_archive)
        return Counter(klines=from_files, file_klines=from_files)

    def _merge(self, rows: pl.DataFrame, covered: list[Span], loaded: Loaded) -> None:
        """Merge rows into the partition, and count what it has gained."""
        services, partition = self._services, self._partition
        self._lease.check()
        merged = services.partitions.merge(
            partition, rows, answers(loaded, covered), revises=self._is_revision
        )
        self._runs.add_counts(self._run, {"rows": merged.gained, "changed": merged.changed})
        metrics.ROWS_COMPACTED.add(merged.gained, market=partition.series.market)
        if merged.changed:
            text = f"{merged.changed:,} held rows have new values"
            self._report(text, partition.span, "lake")
        if merged.published:
            services.coverage.cache_footers([merged.published])

    def _report_conflicts(self, conflicts: pl.DataFrame) -> None:
        """Store every version of the rows on which sources differ, and report which one won."""
        if not conflicts.height:
            return
        body, partition, series = (
            conflicts.write_csv().encode(),
            self._partition,
            self._partition.series,
        )
        name = f"{series.market}-{series.kind}-{series.interval}-{series.symbol}-{partition.period}"
        key = keys.report(self._run, f"{name}-{hashlib.sha256(body).hexdigest()[:8]}.csv")
        self._services.store.put(key, body)
        winners = " and ".join(sorted(set(conflicts.filter("stands")["source"])))
        rows = conflicts[series.kind.time_column].n_unique()
        sources = ", ".join(sorted(set(conflicts["source"])))
        text = f"{rows:,} rows differ between {sources}: {winners} used; all versions in {key}"
        self._report(text, partition.span, "sources")

    def _report_gaps(self, loaded: Loaded, trusted: list[Span], policy: Policy) -> None:
        """Report the gaps of archive files that no other source can fill or confirm."""
        if not policy.is_listed:
            self._report_trusted_gaps(loaded)
        series = self._partition.series
        files = spans.union(entry.span for entry, _ in loaded.frames)
        for span in (gap for whole in files for gap in spans.gaps(trusted, whole)):
            rows = series.interval.opens(span.start_ms, span.end_ms)
            lacking = f"{rows:,} rows are not in the archive's files"
            if policy.may_rest:
                self._report(f"{lacking}; REST failed: they stay missing", span, "archive")
            else:
                text = f"{lacking}; REST is disabled (--source archive): they stay missing"
                self._records.append(Record(Level.FAILED, text, series, span))

    def _report_trusted_gaps(self, loaded: Loaded) -> None:
        """Report the gaps of a symbol that REST no longer has: its files are trusted."""
        series = self._partition.series
        gaps = {gap for version in loaded.versions for gap in missing_in(series, version)}
        if rows := sum(series.interval.opens(gap.start_ms, gap.end_ms) for gap in gaps):
            text = (
                f"{rows:,} rows are not in the archive's files; REST no longer has the symbol: "
                "they count as gaps of the exchange"
            )
            self._report(text, self._partition.span, "archive")

    def _report(self, text: str, span: Span, source: str = "") -> None:
        self._records.append(Record(Level.REPORT, text, self._partition.series, span, source))

    def _held_rows(self, loaded: Loaded) -> pl.DataFrame:
        """Return the lake's rows in the time of the raw objects, if the run revises; else none."""
        partition = self._partition
        if not (self._is_revision and loaded.frames):
            return no_rows(partition.series.kind)
        held = self._services.partitions.rows(partition)
        parts = spans.union(entry.span for entry, _ in loaded.frames)
        return _within(partition.series.kind, held, parts)

    def _clear(self, loaded: Loaded) -> None:
        """Empty the raw zone of what was published; it is kept elsewhere if the settings say so."""
        entries = [entry for entry, _ in loaded.frames]
        if self._services.settings.keep_raw:
            self._lease.check()
            self._services.raw_zone.keep(entries)
        else:
            self._delete(entries)

    def _delete(self, entries: Iterable[RawEntry]) -> None:
        """Delete raw objects, if the lease is still held."""
        self._lease.check()
        self._services.raw_zone.drop(entries)


def _within(kind: Kind, rows: pl.DataFrame, parts: list[Span]) -> pl.DataFrame:
    """Return the rows that open in one of `parts`."""
    opened = rows[kind.time_column].dt.timestamp("ms")
    within = [(opened >= part.start_ms) & (opened < part.end_ms) for part in parts]
    return rows.filter(pl.any_horizontal(within))

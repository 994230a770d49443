"""Compacts one partition: decodes its raw objects, settles conflicts, publishes, deletes them.

Nothing of a partition is merged while another source can still be fetched for it. A damaged raw
object is fetched again; another source replaces an unusable archive file; others are asked about
rows that differ, rows that are odd, and time without a row.
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
from klinefleet.tasks.runs.poison import all_foreseen, may_fail_again
from klinefleet.tasks.runs.policy import policy_for_run
from klinefleet.tasks.runs.records import Level, Record
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.leases import Lease
from klinefleet.workers.domain import spans
from klinefleet.workers.domain.errors import FleetError, LeaseLost, OverWeight
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.redis_keys import compact_lease
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Partition, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.answers import unconfirmed
from klinefleet.workers.lake.footers.oddities import Oddity
from klinefleet.workers.lake.raw_zone import RawEntry
from klinefleet.workers.services import Services
from klinefleet.workers.sources.choice import NothingPublished
from klinefleet.workers.sources.consensus import Resolution, resolve_conflicts
from klinefleet.workers.sources.doubts import (
    doubtful_spans,
    windows_for_disputes,
    windows_for_witnesses,
)
from klinefleet.workers.sources.memory_needs import bytes_to_compact
from klinefleet.workers.sources.policy import Policy
from klinefleet.workers.support import metrics

logger = logging.getLogger(__name__)

#: Fetches of a window whose raw object cannot be used, the first included.
MAX_FETCHES = 3
#: Below so many attempts a window is fetched for one doubt: its source answers it once.
_DOUBT_LIMIT = 2


def compact_partition(services: Services, run: str, partition: Partition) -> str:
    """Compact a partition's raw objects; return why it failed for good, or ''.

    If some time must be fetched first, its windows are sent instead. Nothing is done if another
    worker has the partition's lease, or the partition is not to be compacted any more. A failure is
    recorded in the run. StoreFault or Unforeseen where a later try may succeed; OverWeight
    where the memory that it needs did not come free.
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
            with all_foreseen(f"compact {self._partition}"):
                published = self._compact()
            if published is None:
                return ""
            counts = published
            logger.debug("compacted %s: %s", self._partition, dict(counts))
        except (LeaseLost, OverWeight):
            raise
        except FleetError as error:
            if may_fail_again(self._runs, self._run, str(self._partition), error):
                raise
            reason = error.reason
            logger.error("compact %s failed: %s", self._partition, reason)
            self._records.append(Record.for_partition(Level.FAILED, self._partition, reason))
        if self._runs.partitions.close(
            self._run, self._partition, self._lease.fence, counts, records=self._records
        ):
            metrics.PARTITIONS.add(outcome="failed" if reason else "done")
        return reason

    def _compact(self) -> Counter[str] | None:
        """Publish the partition and return its counts; None where windows had to be sent first.

        It begins once the memory that it needs is free.
        """
        self._services.identity.require_current()
        entries = self._services.raw_zone.entries(self._partition)
        wanted = bytes_to_compact(self._partition, entries)
        with self._services.memory_slots.reserved(wanted, f"compact {self._partition}"):
            return self._compact_entries(entries)

    def _compact_entries(self, entries: list[RawEntry]) -> Counter[str] | None:
        services, run = self._services, self._run
        policy = policy_for_run(services, run, self._partition.series)
        loaded = load_raw_objects(services, entries)
        held, resolution = self._resolve(loaded)
        unusable = [*loaded.damaged, *(entry for entry, _ in loaded.unusable)]
        doubts = self._windows_for_doubts(loaded, held, resolution, policy)
        sent_us, windows = self._reopen(loaded, doubts, policy)
        if windows:
            self._runs.record(run, *self._records)
            # The partition waits for the windows by now: a compaction that is killed here hides
            # none. They are sent after the deletion, since a raw object that is fetched again may
            # have the same name.
            self._delete(unusable)
            enqueue.send_fetch(run, windows, sent_us)
            return None
        counts = self._publish(loaded, resolution)
        self._clear(loaded)
        self._delete(unusable)
        return counts

    def _windows_for_doubts(
        self, loaded: Loaded, held: pl.DataFrame, resolution: Resolution, policy: Policy
    ) -> list[Refetch]:
        """Return the windows that must be fetched before the raw objects are believed.

        Each is fetched once for a dispute, and once for a second witness.
        """
        series, versions = self._partition.series, loaded.versions
        disputes = windows_for_disputes(self._partition, versions, held, resolution, policy)
        doubtful = doubtful_spans(series, versions, resolution)
        witnesses = self._windows_for_witnesses(loaded, doubtful, policy)
        found = {window: Refetch(window, f"witness {window}", _DOUBT_LIMIT) for window in witnesses}
        found |= {window: Refetch(window, f"dispute {window}", _DOUBT_LIMIT) for window in disputes}
        return list(found.values())

    def _windows_for_witnesses(
        self, loaded: Loaded, doubtful: list[Span], policy: Policy
    ) -> list[Window]:
        """Return the windows that ask others about time without a sound row."""
        if not doubtful:
            return []
        services, partition = self._services, self._partition
        footer = services.coverage.footer(partition)
        doubtful = spans.without(doubtful, footer.sound)
        given = [*footer.answers, *answers(loaded)]
        archive_index = services.archive_indexes.get(partition.series)
        try:
            return windows_for_witnesses(partition, doubtful, given, archive_index, policy)
        except FleetError as error:
            text = (
                f"{error.reason}; its files were to tell whether rows exist that one source lacks"
            )
            level = Level.REPORT if policy.may_rest else Level.FAILED
            for part in unconfirmed(given, doubtful):
                self._records.append(Record(level, text, partition.series, part, "archive"))
            return windows_for_witnesses(partition, doubtful, given, NothingPublished(), policy)

    def _reopen(
        self, loaded: Loaded, doubts: list[Refetch], policy: Policy
    ) -> tuple[int, list[Window]]:
        """Have the partition wait for the windows that must be fetched first.

        These replace damaged and unusable raw objects, and settle `doubts`. Returns the Redis µs at
        which the first counts as sent, and the windows. A window that replaces others and has been
        fetched too often is recorded as failed.
        """
        partition = self._partition
        damaged = sorted({(entry.source, entry.span) for entry in loaded.damaged})
        again = [Window(partition, span, source) for source, span in damaged]
        replacing = [Refetch(window, str(window), MAX_FETCHES) for window in again]
        replacing += [
            Refetch(window, f"instead {window}", MAX_FETCHES)
            for window in self._replacements(loaded, policy)
        ]
        wanted = [*replacing, *doubts]
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

    def _publish(self, loaded: Loaded, resolution: Resolution) -> Counter[str]:
        """Publish the rows that won; return the counts."""
        if not loaded.frames:
            return Counter()
        self._report_conflicts(resolution.conflicts)
        self._report_oddities(resolution.oddities)
        self._merge(loaded, resolution)
        from_files = sum(rows.height for entry, rows in loaded.frames if entry.source.is_archive)
        return Counter(klines=from_files, file_klines=from_files)

    def _merge(self, loaded: Loaded, resolution: Resolution) -> None:
        """Merge the rows into the partition, and count what it has gained."""
        services, partition = self._services, self._partition
        rows = _within(partition.series.kind, resolution.rows, [partition.span])
        self._lease.check()
        merged = services.partitions.merge(
            partition,
            rows,
            answers(loaded),
            oddities=resolution.oddities,
            revises=self._is_revision,
        )
        self._runs.add_counts(self._run, {"rows": merged.gained, "changed": merged.changed})
        metrics.ROWS_COMPACTED.add(merged.gained, market=partition.series.market)
        if merged.changed:
            text = f"held rows have new values ({merged.changed:,} rows)"
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
        text = (
            f"rows differ between {sources}: {winners} used ({rows:,} rows, all versions in {key})"
        )
        self._report(text, partition.span, "sources")

    def _report_oddities(self, oddities: list[Oddity]) -> None:
        """Report the rows that are kept with a faulty value."""
        opens = self._partition.series.interval.opens
        for odd in oddities:
            rows = opens(odd.span.start_ms, odd.span.end_ms)
            sources = " and ".join(odd.sources)
            text = f"rows kept as {sources} have them: {odd.what} ({rows:,} rows)"
            self._report(text, odd.span, "sources")

    def _report(self, text: str, span: Span, source: str = "") -> None:
        self._records.append(Record(Level.REPORT, text, self._partition.series, span, source))

    def _resolve(self, loaded: Loaded) -> tuple[pl.DataFrame, Resolution]:
        """Return the lake's rows that the raw objects are compared with, and the rows that win.

        A run that revises compares all time that it has answers for. Any other run compares odd
        rows, since these would replace odd rows of the lake.
        """
        series, versions = self._partition.series, loaded.versions
        held = no_rows(series.kind)
        if self._is_revision and versions:
            held = self._held_rows(version.span for version in versions)
        resolution = resolve_conflicts(series, versions, held)
        if resolution.oddities and not self._is_revision:
            held = self._held_rows(oddity.span for oddity in resolution.oddities)
            resolution = resolve_conflicts(series, versions, held)
        return held, resolution

    def _held_rows(self, parts: Iterable[Span]) -> pl.DataFrame:
        """Return the lake's rows in some time."""
        rows = self._services.partitions.rows(self._partition)
        return _within(self._partition.series.kind, rows, spans.union(parts))

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

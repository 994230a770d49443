"""The summary of a run: rows by source, cost, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.records import NO_REPORT, Cause, Level, causes
from klinefleet.tasks.runs.report_file import REPORT_FILE
from klinefleet.workers.coordination.heartbeat import total_width
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.limits.budget import PoolState, combined_state
from klinefleet.workers.services import Services

#: Causes of notes, of reports and of failures that the text names; the rest are counted.
NAMED = 20


@dataclass(frozen=True)
class Summary:
    """A run's progress, with what the pool and the workers measured."""

    progress: Progress
    pool: PoolState
    slots: int
    """Concurrent calls that are useful at the pool's round trip, of all workers together."""
    max_slots: int
    store_url: str

    @property
    def budget_share(self) -> float:
        """The run's weight as a share of what its calendar minutes allowed."""
        p = self.progress
        minutes = (p.ended_ms or p.now_ms) // MINUTE_MS - p.began_ms // MINUTE_MS + 1
        return p.counts["weight"] / (minutes * self.pool.limit) if self.pool.limit else 0.0

    def facts(self) -> dict[str, Any]:
        """Return the summary as plain values, for --json."""
        p = self.progress
        from_rest = p.counts["klines"] - p.counts["file_klines"]
        return {
            "run": p.run,
            "state": str(p.state),
            "market": str(p.request.market),
            "kind": str(p.request.kind),
            "interval": str(p.request.interval),
            "source": str(p.request.source),
            "symbols": p.symbols,
            "klines": p.counts["klines"],
            "klines_from_files": p.counts["file_klines"],
            "klines_from_rest": from_rest,
            "rows_gained": p.counts["rows"],
            "rows_changed": p.counts["changed"],
            "rows_absent": p.counts["absent"],
            "rows_absent_by_one_witness": p.counts["absent_by_one"],
            "files": p.counts["files"],
            "requests": p.counts["calls"],
            "retries": p.counts["retries"],
            "bytes": p.counts["bytes"],
            "weight": p.counts["weight"],
            "budget_share": round(self.budget_share, 4),
            "klines_per_weight": round(from_rest / max(1, p.counts["weight"]), 1),
            "seconds": round(p.seconds, 3),
            "klines_per_second": round(p.counts["klines"] / p.seconds),
            "rtt_ms": self.pool.rtt_ms,
            "slots": self.slots,
            "slots_most": self.max_slots,
            "partitions_held": p.counts["partitions_held"],
            "partitions_compacted": p.counts["partitions_done"],
            "lake": f"{self.store_url}/lake",
            "store": p.store,
            "notes": p.notes,
            "report": p.reported,
            "failed": p.failed,
        }

    def text(self) -> str:
        """Return the summary as text for people."""
        p = self.progress
        found = causes(p.records)
        lines = [self._title(), *self._table(), f"  Parquet   {self.store_url}/{_folder(p)}/"]
        lines += _lines(found, Level.NOTE)
        lines += _lines(found, Level.REPORT)
        if (p.reported or p.failed) and NO_REPORT.name not in p.failed:
            lines.append(f"  report    {self.store_url}/{keys.report(p.run, REPORT_FILE)}")
        failures = _lines(found, Level.FAILED, "FAILED ")
        lines += failures
        if len(p.failed) > len(failures):
            lines.append(f"  `klines status {p.run} --json` lists all failures")
        if p.state is State.INCOMPLETE:
            lines.append("  What failed is still missing; the same command fetches just that.")
        return "\n".join(lines)

    def _title(self) -> str:
        request, state = self.progress.request, self.progress.state
        interval = f"{request.interval} " if request.interval.is_grid else ""
        series = f"{request.market} {request.kind} {interval}{request.span}"
        return f"{series}, {self.progress.symbols:,} symbols: {state}"

    def _table(self) -> list[str]:
        """Return a line of label, number and explanation for each measure."""
        f = self.facts()
        megabytes, limit, rtt_ms = f["bytes"] / 1e6, self.pool.limit or 0, f["rtt_ms"] or "?"
        rows = [
            (
                "rows",
                f["klines"],
                f"{f['klines_per_second']:,} a second, {f['seconds']:.1f} s; "
                f"{f['klines_from_files']:,} from files, {f['klines_from_rest']:,} from REST",
            ),
            ("files", f["files"], f"without weight; {megabytes:,.1f} MB received in all"),
            ("requests", f["requests"], f"{f['retries']:,} retries of files and requests"),
            (
                "weight",
                f["weight"],
                f"{self.budget_share:.1%} of the budget ({limit:,} a minute), "
                f"{f['klines_per_weight']:,} rows per unit",
            ),
            ("slots", f["slots"], f"of {f['slots_most']} useful at a round trip of {rtt_ms} ms"),
            (
                "partitions",
                f["partitions_compacted"],
                f"compacted, {f['partitions_held']:,} were complete before",
            ),
        ]
        if f["rows_absent"]:
            by_one = f["rows_absent_by_one_witness"]
            text = "candles that do not exist at the exchange"
            text += f", {by_one:,} of them by one witness" if by_one else ""
            rows.append(("absent", f["rows_absent"], text))
        if f["rows_changed"]:
            rows.append(("changed", f["rows_changed"], "rows in the lake have other values now"))
        return [f"  {label:<10}{number:>13,}   {text}" for label, number, text in rows]


def summarize(services: Services, progress: Progress) -> Summary:
    """Return the summary of a run, ended or not."""
    state = combined_state(list(services.pool_states(progress.request.pool).values()))
    slots, max_slots = total_width(services.redis, progress.request.pool)
    default = services.settings.slots
    return Summary(
        progress, state, slots or default, max_slots or default, services.settings.store_url
    )


def _folder(progress: Progress) -> str:
    return keys.series_folder("lake", next(progress.request.series())).rpartition("/")[0]


def _lines(found: Iterable[Cause], level: Level, mark: str = "") -> list[str]:
    """Return a line for each cause of a level, the first `NAMED` of them."""
    lines = [f"  {mark}{one.name}: {one.text}" for one in found if one.level is level]
    hidden = len(lines) - NAMED
    return [*lines[:NAMED], f"  {mark}and {hidden:,} more"] if hidden > 0 else lines

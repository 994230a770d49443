"""What a user sees of a run that has ended: how much came from where, what it cost, and what was
out of order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from klinefleet.tasks.runs.progress import Progress, State
from klinefleet.tasks.runs.report_file import REPORT
from klinefleet.workers.coordination.heartbeat import total_width
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.limits.budget import PoolState, combined_state
from klinefleet.workers.services import Services

#: Symbols, reported files and failed windows that are named; the rest are counted.
NAMED = 20


@dataclass(frozen=True)
class Summary:
    """How a run went, with what the pool and the workers measured."""

    progress: Progress
    pool: PoolState
    width: int
    most: int
    store_url: str

    @property
    def share(self) -> float:
        """The run's weight as a part of what the calendar minutes it touched allowed."""
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
            "symbols": len(p.request.symbols),
            "klines": p.counts["klines"],
            "klines_from_files": p.counts["file_klines"],
            "klines_from_rest": from_rest,
            "rows_gained": p.counts["rows"],
            "rows_changed": p.counts["changed"],
            "files": p.counts["files"],
            "requests": p.counts["calls"],
            "retries": p.counts["retries"],
            "bytes": p.counts["bytes"],
            "weight": p.counts["weight"],
            "budget_share": round(self.share, 4),
            "klines_per_weight": round(from_rest / max(1, p.counts["weight"]), 1),
            "seconds": round(p.seconds, 3),
            "klines_per_second": round(p.counts["klines"] / p.seconds),
            "rtt_ms": self.pool.rtt_ms,
            "slots": self.width,
            "slots_most": self.most,
            "blocks_held": p.counts["blocks_held"],
            "blocks_compacted": p.counts["blocks_done"],
            "lake": f"{self.store_url}/lake",
            "notes": p.notes,
            "report": p.reported,
            "failed": p.failed,
        }

    def text(self) -> str:
        """Return the summary for people."""
        f, p = self.facts(), self.progress
        limit = self.pool.limit or 0
        interval = f"{p.request.interval} " if p.request.interval.is_grid else ""
        lines = [
            f"{p.request.market} {p.request.kind} {interval}{p.request.span}, {f['symbols']:,} "
            f"symbols: {p.state}",
            f"  rows      {f['klines']:>13,}   {f['klines_per_second']:,} a second, "
            f"{f['seconds']:.1f} s; "
            f"{f['klines_from_files']:,} from files, {f['klines_from_rest']:,} from REST",
            f"  files     {f['files']:>13,}   without weight; {f['bytes'] / 1e6:,.1f} MB received "
            "in all",
            f"  requests  {f['requests']:>13,}   {f['retries']:,} tries more for files and "
            "requests that failed first",
            f"  weight    {f['weight']:>13,}   {self.share:.1%} of the budget ({limit:,} a "
            "minute), "
            f"{f['klines_per_weight']:,} rows for 1",
            f"  slots     {f['slots']:>13,}   pay at {f['rtt_ms'] or '?'} ms a round trip, "
            f"{f['slots_most']} at most",
            f"  blocks    {f['blocks_compacted']:>13,}   compacted, {f['blocks_held']:,} were "
            "held already",
        ]
        if f["rows_changed"]:
            lines.append(
                f"  changed   {f['rows_changed']:>13,}   rows that were held have other values now"
            )
        lines.append(f"  Parquet   {self.store_url}/{_folder(p)}/")
        lines += _named(p.notes)
        lines += _named(p.reported)
        if p.reported or p.failed:
            lines.append(f"  report    {self.store_url}/{keys.report(p.run, REPORT)}")
        lines += _named(p.failed, FAILED)
        if len(p.failed) > NAMED:
            lines.append(f"  `klines status {p.run} --json` names all")
        if p.state is State.INCOMPLETE:
            lines.append("  What failed stays missing; the same command fetches exactly it.")
        return "\n".join(lines)


#: The mark of what failed.
FAILED = "FAILED "


def summary(services: Services, progress: Progress) -> Summary:
    """Return how a run went or goes."""
    state = combined_state(list(services.pool_states(progress.request.pool).values()))
    width, most = total_width(services.redis, progress.request.pool)
    slots = services.settings.slots
    return Summary(progress, state, width or slots, most or slots, services.settings.store_url)


def _folder(progress: Progress) -> str:
    return keys.series_folder("lake", next(progress.request.series())).rpartition("/")[0]


def _named(told: Mapping[str, str], mark: str = "") -> list[str]:
    lines = [f"  {mark}{name}: {text}" for name, text in list(told.items())[:NAMED]]
    return lines if len(told) <= NAMED else [*lines, f"  {mark}and {len(told) - NAMED:,} more"]

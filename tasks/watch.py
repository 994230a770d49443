"""What a user sees of a run: progress while it goes on, a summary at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import RedisError

from tasks.progress import Progress, Runs, State
from workers.errors import FleetError
from workers.lake import keys
from workers.limits import PoolState
from workers.model import MINUTE_MS
from workers.toolbox import Toolbox

LOOK_S = 0.1
#: How long Redis may be away before the command gives up following (the run itself may go on).
PATIENCE_S = 120.0
#: Off a terminal, a line is printed this often.
LINE_S = 5.0
#: Failed windows that the summary names; the rest are counted.
NAMED_FAILURES = 20


class RunLost(FleetError):
    """Nothing is known of the run any more."""


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
        return {
            "run": p.run,
            "state": str(p.state),
            "market": str(p.request.market),
            "interval": str(p.request.interval),
            "symbols": len(p.request.symbols),
            "klines": p.counts["klines"],
            "rows_gained": p.counts["rows"],
            "requests": p.counts["calls"],
            "retries": p.counts["retries"],
            "weight": p.counts["weight"],
            "budget_share": round(self.share, 4),
            "klines_per_weight": round(p.counts["klines"] / max(1, p.counts["weight"]), 1),
            "seconds": round(p.seconds, 3),
            "klines_per_second": round(p.counts["klines"] / p.seconds),
            "rtt_ms": self.pool.rtt_ms,
            "slots": self.width,
            "slots_most": self.most,
            "blocks_held": p.counts["blocks_held"],
            "blocks_compacted": p.counts["blocks_done"],
            "lake": f"{self.store_url}/lake",
            "notes": p.notes,
            "failed": p.failed,
        }

    def text(self) -> str:
        """Return the summary for people."""
        f, p = self.facts(), self.progress
        limit = self.pool.limit or 0
        lines = [
            f"{p.request.market} {p.request.interval} {p.request.span}, {f['symbols']} symbols: {p.state}",
            f"  klines    {f['klines']:>13,}   {f['klines_per_second']:,} a second, {f['seconds']:.1f} s",
            f"  requests  {f['requests']:>13,}   {f['retries']:,} of them tried again",
            f"  weight    {f['weight']:>13,}   {self.share:.1%} of the budget ({limit:,} a minute), "
            f"{f['klines_per_weight']:,} klines for 1",
            f"  slots     {f['slots']:>13,}   pay at {f['rtt_ms'] or '?'} ms a round trip, {f['slots_most']} at most",
            f"  blocks    {f['blocks_compacted']:>13,}   compacted, {f['blocks_held']:,} were held already",
            f"  Parquet   {self.store_url}/{keys.series_folder('lake', next(p.request.series())).rpartition('/')[0]}/",
        ]
        lines += [f"  {symbol}: {note}" for symbol, note in list(p.notes.items())[:NAMED_FAILURES]]
        lines += [f"  FAILED {name}: {reason}" for name, reason in list(p.failed.items())[:NAMED_FAILURES]]
        if len(p.failed) > NAMED_FAILURES:
            lines.append(f"  and {len(p.failed) - NAMED_FAILURES} more; `klines status {p.run} --json` names all")
        if p.state is State.INCOMPLETE:
            lines.append("  What failed stays missing; the same command fetches exactly it.")
        return "\n".join(lines)


def summary(tools: Toolbox, progress: Progress) -> Summary:
    """Return how a run went or goes."""
    state = tools.budget(progress.request.pool).state()
    width, most = tools.heart.widths(progress.request.pool)
    return Summary(
        progress, state, width or tools.settings.slots, most or tools.settings.slots, tools.settings.store_url
    )


def follow(tools: Toolbox, run: str, tend: Callable[[], None] = lambda: None) -> Progress:
    """Show a run's progress until it has ended, and return how; `tend` is called at every look.

    RunLost where Redis forgot it or stays away; what was fetched is in the store.
    """
    runs, shows = Runs(tools.redis), _Bar() if sys.stderr.isatty() else _Lines()
    seen = time.monotonic()
    with shows:
        while True:
            tend()
            try:
                progress = runs.progress(run)
            except RedisError as error:
                if time.monotonic() - seen > PATIENCE_S:
                    raise RunLost(
                        f"Redis has been away for {PATIENCE_S:.0f} s ({error}); run {run} may go on"
                    ) from error
                shows.say("Redis does not answer; waiting for it")
                time.sleep(1.0)
                continue
            if progress is None:
                raise RunLost(f"Redis knows nothing of run {run} any more; what was fetched is held, ask again")
            seen = time.monotonic()
            shows.show(tools, progress)
            if progress.state.has_ended:
                return progress
            time.sleep(LOOK_S)


def status_line(tools: Toolbox, progress: Progress) -> str:
    """Return where a run stands, in one line."""
    counts, pool = progress.counts, tools.budget(progress.request.pool).state()
    parts = [
        f"windows {counts['windows_done']:,}/{counts['windows']:,}",
        f"{counts['klines']:,} klines",
        f"budget {pool.used / pool.limit:.0%} of this minute" if pool.limit else "",
        f"closed for {pool.closed_ms / 1000:.0f} s" if pool.closed_ms else "",
        f"waited {counts['waited_ms'] / 1000:,.0f} s for weight" if counts["waited_ms"] > 1000 else "",
        f"{counts['windows_failed']:,} failed" if counts["windows_failed"] else "",
        f"{_clock(progress.eta_s)} to go" if progress.eta_s is not None and not progress.state.has_ended else "",
    ]
    return ", ".join(part for part in parts if part)


class _Lines:
    """Plain lines, for logs and pipes."""

    def __enter__(self) -> None:
        self._shown = time.monotonic()
        self._said = ""

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, tools: Toolbox, progress: Progress) -> None:
        if time.monotonic() - self._shown >= LINE_S:
            self._shown = time.monotonic()
            self.say(f"{progress.run}: {status_line(tools, progress)}")

    def say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(text, file=sys.stderr, flush=True)


class _Bar:
    """One line that moves, on a terminal."""

    def __enter__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        self._task = self._bars.add_task("planning", total=None)

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, tools: Toolbox, progress: Progress) -> None:
        done = progress.counts["calls_done"]
        self._bars.update(
            self._task, completed=done, total=done + progress.calls_left, description=status_line(tools, progress)
        )

    def say(self, text: str) -> None:
        self._bars.update(self._task, description=text)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

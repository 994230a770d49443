"""The Redis keys of runs: every one is named here.

    klines:run:<id>            hash    request, state, lead, cursor, times and counters
    klines:run:<id>:blocks     hash    block -> {phase, since_ms, sent_us, left, fence} of those under way, JSON
    klines:run:<id>:windows    hash    block|start ms-end ms-source -> Redis µs when it was last sent
    klines:run:<id>:deferred   set     blocks that another run has
    klines:run:<id>:records    hash    what it has to say: identity -> text (`records.py`)
    klines:run:<id>:tries      hash    name -> tries
    klines:run:<id>:wake       list    something has happened, planner look again
    klines:run:<id>:touched    set     symbols of which a block was claimed: the lake is looked at for them at the end
    klines:claims              hash    block -> run: no block is fetched for two runs at once
    klines:done:<block>        string  Redis ms when it was last compacted; lapses
    klines:active              set     runs that have not ended
    klines:runs                sorted set  run -> Redis ms of its creation
    klines:bell                list    new runs; a plan lane that hears of one sends it a planner

Of a run that has ended the hash and its records are left, and lapse after `KEEP_MS`.
"""

from __future__ import annotations

from klinefleet.workers.domain.series import Block, Source, Window
from klinefleet.workers.domain.spans import Span

#: What is known of a run that ended is kept this long.
KEEP_MS = 7 * 86_400_000
#: A planner that has read a block's coverage within this time can tell that the block was compacted since.
DONE_MS = 3_600_000
CLAIMS, ACTIVE, RUNS, BELL = "klines:claims", "klines:active", "klines:runs", "klines:bell"
_PARTS = ("blocks", "windows", "deferred", "records", "tries", "wake", "touched")


def run_key(run: str, part: str = "") -> str:
    """Return the key of a run's hash, or of another part of its state."""
    return f"klines:run:{run}:{part}" if part else f"klines:run:{run}"


def script_keys(run: str) -> list[str]:
    """Return the keys that every script of a run is given, in the order of `run.lua`."""
    return [run_key(run), *(run_key(run, part) for part in _PARTS), CLAIMS, ACTIVE, RUNS]


def done_key(block: Block) -> str:
    """Return the key that tells when a block was last compacted."""
    return f"klines:done:{block}"


def window_field(window: Window) -> str:
    """Return the field of a run's `windows` that a window has."""
    return f"{window.block}|{window.span.start_ms}-{window.span.end_ms}-{window.source}"


def window_of(field: str) -> Window:
    """Return the window that `window_field` spelled."""
    block, _, name = field.rpartition("|")
    start_ms, end_ms, source = name.split("-")
    return Window(Block.parse(block), Span(int(start_ms), int(end_ms)), Source(source))


def plan_lease(run: str) -> str:
    """Return the lease that the planner of a run holds."""
    return f"plan|{run}"


def fetch_lease(window: Window) -> str:
    """Return the lease that whoever fetches the window holds."""
    return f"fetch|{window.block}|{window.source}|{window.span.start_ms}"


def compact_lease(block: Block) -> str:
    """Return the lease that whoever compacts the block holds."""
    return f"compact|{block}"

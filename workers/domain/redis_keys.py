"""Every Redis key, named once. Keys of one run, check or budget carry its name.

Runs (`klinefleet.tasks.runs`):
    klines:run:<id>            hash    request, state, lead, cursor, times and counters
    klines:run:<id>:blocks     hash    block -> {phase, since_ms, sent_us, left, fence} of those under way, JSON
    klines:run:<id>:windows    hash    block|start ms-end ms-source -> Redis µs when it was last sent
    klines:run:<id>:deferred   set     blocks that another run has
    klines:run:<id>:records    hash    notes, reports and failures: identity -> text
    klines:run:<id>:tries      hash    name -> tries
    klines:run:<id>:wake       list    something has happened, the planner looks again
    klines:run:<id>:touched    set     symbols of which a block was claimed: their coverage is checked at the end
    klines:claims              hash    block -> run: no block is fetched for two runs at once
    klines:done:<block>        string  Redis ms when it was last compacted; lapses
    klines:active              set     runs that have not ended
    klines:runs                sorted set  run -> Redis ms of its creation
    klines:runs:new            list    runs for which no planner has been sent

Of a run that has ended the hash and its records are left, and lapse after `KEEP_MS`.

Verifications (`klinefleet.tasks.verification`):
    klines:check:<id>:open     hash    pieces that are sent and not done -> Redis µs when each was last sent
    klines:check:<id>:found    list    results of those that are done, JSON; the command takes them off
Both go with the command, or lapse soon after it was killed.

Workers (`klinefleet.workers.coordination`):
    klines:leases              sorted set  lease -> Redis ms at which it lapses
    klines:leases:owners       hash    lease -> owner
    klines:leases:fence        string  the last fencing number
    klines:workers             sorted set  process -> Redis ms at which its heartbeat lapses
    klines:widths              hash    process -> calls it may have in flight now / at most / Redis ms

Exchange (`klinefleet.workers.binance`, `klinefleet.workers.limits`):
    klines:listed:<market>     hash    symbol -> status and dates, JSON; and the Redis ms when they were asked for
    klines:listed:<market>:pairs  hash  pair -> the same, from its first contract on
    klines:limits              hash    pool -> weight a minute
    klines:first:<series>      hash    symbol -> open time of its first candle, ms
    klines:budget:{<pool>@<egress>}:pool, :minute:<0..2>  hashes, see `budget_state.lua`
    klines:shared_egress       hash    "pool egress egress" -> the last minute they looked like one address, how often
"""

from __future__ import annotations

from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Block, Series, Source, Window
from klinefleet.workers.domain.spans import Span

#: What is known of a run that ended is kept this long.
KEEP_MS = 7 * 86_400_000
#: A planner that has read a block's coverage within this time can tell that the block was compacted
#: since.
DONE_MS = 3_600_000
CLAIMS, ACTIVE, RUNS, NEW_RUNS = "klines:claims", "klines:active", "klines:runs", "klines:runs:new"

LEASES, OWNERS, FENCE = "klines:leases", "klines:leases:owners", "klines:leases:fence"
WORKERS, WIDTHS = "klines:workers", "klines:widths"
LIMITS, SHARED_EGRESS = "klines:limits", "klines:shared_egress"
_PARTS = ("blocks", "windows", "deferred", "records", "tries", "wake", "touched")


def run_key(run: str, part: str = "") -> str:
    """Return the key of a run's hash, or of another part of its state."""
    return f"klines:run:{run}:{part}" if part else f"klines:run:{run}"


def script_keys(run: str) -> list[str]:
    """Return the keys that every script of a run is given, in the order of `prelude.lua`."""
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


def check_key(check: str, part: str) -> str:
    """Return the key of a part of a verification: `open` or `found`."""
    return f"klines:check:{check}:{part}"


def check_lease(check: str, piece: str) -> str:
    """Return the lease that whoever checks the piece holds."""
    return f"verify|{check}|{piece}"


def symbols_key(market: Market) -> str:
    """Return the key of a market's symbols. Not the key of version 0.1, whose entries lapsed."""
    return f"klines:listed:{market}"


def pairs_key(market: Market) -> str:
    """Return the key of a market's pairs."""
    return f"klines:listed:{market}:pairs"


def first_candle_key(series: Series) -> str:
    """Return the key of the first candles of a series' market, kind and interval; klines name no
    kind.
    """
    kind = "" if series.kind == DEFAULT_KIND else f"{series.kind}:"
    return f"klines:first:{series.market}:{kind}{series.interval}"


def budget_key(pool: str, egress: str) -> str:
    """Return what the keys of a budget begin with; the braces keep them on one node of a Redis
    cluster.
    """
    return f"klines:budget:{{{pool}@{egress}}}"

"""Every Redis key, named once. Keys of one run, job or budget have its name in them.

Runs (`klinefleet.tasks.runs`):
    klines:run:<id>            hash    request, store, state, lead, cursor, times and counters
    klines:run:<id>:partitions  hash   open partition -> {phase, since_ms, sent_us, left, fence}
    klines:run:<id>:windows    hash    partition|start-end-source (ms) -> Redis µs of last sending
    klines:run:<id>:deferred   set     partitions that another run has claimed
    klines:run:<id>:records    hash    notes, reports and failures: identity -> text
    klines:run:<id>:tries      hash    name -> tries
    klines:run:<id>:wake       list    wakes the planner
    klines:run:<id>:touched    set     symbols with a claimed partition: checked at the end
    klines:claims              hash    partition -> run: none is fetched for two runs at once
    klines:done:<partition>    string  Redis ms of its last compaction; lapses
    klines:active              set     runs that have not ended
    klines:runs                zset    run -> Redis ms of its creation
    klines:runs:new            list    runs for which no planner has been sent

Of a run that has ended the hash and a few records are left; many are in its report in the store.
They lapse after `KEEP_MS`, or earlier if many runs have ended since.

Jobs (`klinefleet.tasks.jobs`):
    klines:job:<id>:open       hash    pieces sent and not done -> Redis µs of the last sending
    klines:job:<id>:results    list    results of done pieces, JSON; the command takes them off
Both are deleted by the command, or lapse soon after it was killed.

Workers (`klinefleet.workers.coordination`):
    klines:leases              zset    lease -> Redis ms at which it lapses
    klines:leases:owners       hash    lease -> process that holds it, and a number
    klines:leases:fence        string  the last fencing number
    klines:workers             zset    process -> Redis ms at which its heartbeat lapses
    klines:store               string  the store that they serve, JSON {id, url}; lapses with them
    klines:widths              hash    process -> calls in flight: useful now / at most / Redis ms
    klines:memory              hash    process -> most bytes it had / its limit / Redis ms
    klines:unreadable          list    the last messages that nobody could read; lapses
    klines:swept               string  the store was swept; lapses after a day
    klines:writable            string  a lane that waits tries whether it can write; lapses

Exchange (`klinefleet.workers.binance`, `klinefleet.workers.limits`):
    klines:listed:<market>     hash    symbol -> status and dates, JSON; and when they were loaded
    klines:listed:<market>:pairs  hash  pair -> the same, from its first contract on
    klines:limits              hash    market -> weight a minute
    klines:first:<series>      hash    symbol -> open time of its first candle, ms
    klines:newest:<series>     hash    symbol -> when it was asked for, and the newest row, JSON
    klines:files:<which>:<series>  hash  symbol -> when it was listed, and its first or last file
    klines:budget:{<pool>@<egress>}:pool, :minute:<0..2>  hashes, see `budget_state.lua`
    klines:shared_egress       hash    "pool egress egress" -> the last minute in which they looked
                                       like one address, and how often
"""

from __future__ import annotations

from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series, Window, known_source
from klinefleet.workers.domain.spans import Span

#: How long the state of an ended run is kept.
KEEP_MS = 7 * 86_400_000
#: How long the time of a partition's compaction is kept: longer than a planner takes from reading
#: the partition's coverage to opening it.
DONE_MS = 3_600_000
CLAIMS, ACTIVE, RUNS, NEW_RUNS = "klines:claims", "klines:active", "klines:runs", "klines:runs:new"

LEASES, OWNERS, FENCE = "klines:leases", "klines:leases:owners", "klines:leases:fence"
WORKERS, WIDTHS, STORE = "klines:workers", "klines:widths", "klines:store"
MEMORY, UNREADABLE, WRITABLE = "klines:memory", "klines:unreadable", "klines:writable"
SWEPT = "klines:swept"
LIMITS, SHARED_EGRESS = "klines:limits", "klines:shared_egress"
_PARTS = ("partitions", "windows", "deferred", "records", "tries", "wake", "touched")


def run_key(run: str, part: str = "") -> str:
    """Return the key of a run's hash, or of another part of its state."""
    return f"klines:run:{run}:{part}" if part else f"klines:run:{run}"


def script_keys(run: str) -> list[str]:
    """Return the keys that every script of a run is given, in the order of `prelude.lua`."""
    return [run_key(run), *(run_key(run, part) for part in _PARTS), CLAIMS, ACTIVE, RUNS]


def done_key(partition: Partition) -> str:
    """Return the key of the time at which a partition was last compacted."""
    return f"klines:done:{partition}"


def window_field(window: Window) -> str:
    """Return a window's field in its run's `windows`."""
    return f"{window.partition}|{window.span.start_ms}-{window.span.end_ms}-{window.source}"


def window_of(field: str) -> Window:
    """Return the window of a field of `window_field`."""
    partition, _, name = field.rpartition("|")
    start_ms, end_ms, source = name.split("-")
    return Window(
        Partition.parse(partition), Span(int(start_ms), int(end_ms)), known_source(source)
    )


def plan_lease(run: str) -> str:
    """Return the lease of a run's planner."""
    return f"plan|{run}"


def fetch_lease(window: Window) -> str:
    """Return the lease of a window's fetch."""
    return f"fetch|{window.partition}|{window.source}|{window.span.start_ms}"


def compact_lease(partition: Partition) -> str:
    """Return the lease of a partition's compaction."""
    return f"compact|{partition}"


def job_key(job: str, part: str) -> str:
    """Return the key of a part of a job: `open` or `results`."""
    return f"klines:job:{job}:{part}"


def piece_lease(job: str, piece: str) -> str:
    """Return the lease of a piece of a job."""
    return f"piece|{job}|{piece}"


def symbols_key(market: Market) -> str:
    """Return the key of a market's symbols. Not the key of version 0.1, whose entries lapsed."""
    return f"klines:listed:{market}"


def pairs_key(market: Market) -> str:
    """Return the key of a market's pairs."""
    return f"klines:listed:{market}:pairs"


def first_candle_key(series: Series) -> str:
    """Return the key of the first candles of a market, kind (klines have none) and interval."""
    return f"klines:first:{_group(series)}"


def newest_row_key(series: Series) -> str:
    """Return the key of the newest rows of a market, kind and interval."""
    return f"klines:newest:{_group(series)}"


def edge_file_key(series: Series, which: str) -> str:
    """Return the key of the `first` or `last` archive files of a market, kind and interval."""
    return f"klines:files:{which}:{_group(series)}"


def _group(series: Series) -> str:
    kind = "" if series.kind == DEFAULT_KIND else f"{series.kind}:"
    return f"{series.market}:{kind}{series.interval}"


def budget_key(pool: str, egress: str) -> str:
    """Return the prefix of a budget's keys; the braces keep them on one Redis cluster node."""
    return f"klines:budget:{{{pool}@{egress}}}"

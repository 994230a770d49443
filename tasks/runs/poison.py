"""Work that kills its workers, or fails in a way that nobody foresaw: after three times it is over.

What kills one worker kills the next: a partition that needs more memory than there is, for
instance. Sent again and again, it would keep a fleet from all other work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.heartbeat import last_memory
from klinefleet.workers.domain.errors import FleetError, StoreFault, Unforeseen

logger = logging.getLogger(__name__)

#: Attempts at work while the store fails. After the last one it has failed.
MAX_STORE_FAULTS = 5
#: Times that work may raise what nobody foresaw.
MAX_UNFORESEEN = 3
#: Deaths after which work has failed.
MAX_DEATHS = 3
#: Times that work is sent again whose message was lost, or taken by who could not do it.
MAX_LOSSES = 20
#: Letters of an error that are shown.
_SHOWN = 200
#: From this part of its limit on, a process may have died of its memory: others share the limit.
_LARGE_SHARE = 0.5


@contextmanager
def all_foreseen(work: str) -> Iterator[None]:
    """Raise Unforeseen in place of an error that nobody foresaw, and log where it came from.

    Errors of our own pass, and those of Redis, which is waited for.
    """
    try:
        yield
    except (FleetError, RedisError, OperationalError):
        raise
    except Exception as error:
        logger.exception("%s failed in a way that nobody foresaw", work)
        found = " ".join(f"{type(error).__name__} {error}".split())[:_SHOWN]
        raise Unforeseen(f"nobody foresaw that it fails with {found}; see the log") from error


def may_fail_again(runs: Runs, run: str, work: str, error: FleetError) -> bool:
    """Count a failure of the store, or one that nobody foresaw; False from the last allowed one on.

    False at once for any other error: another try would not help.
    """
    if isinstance(error, Unforeseen):
        return runs.partitions.record_attempt(run, f"unforeseen {work}", MAX_UNFORESEEN)
    is_store = isinstance(error, StoreFault)
    return is_store and runs.partitions.record_attempt(run, work, MAX_STORE_FAULTS)


def may_die_again(runs: Runs, run: str, work: str) -> bool:
    """Count the death of the worker that did this work; False from the last allowed one on."""
    return runs.partitions.record_attempt(run, f"death {work}", MAX_DEATHS)


def may_get_lost_again(runs: Runs, run: str, work: str) -> bool:
    """Count a message that was lost without a trace; False from the last allowed one on."""
    return runs.partitions.record_attempt(run, f"loss {work}", MAX_LOSSES)


def state_of_plan(runs: Runs, run: str) -> str:
    """Return how far a run is: planners that die where another one died may die of the run."""
    return f"plan {runs.cursor(run)} {runs.partitions.count_in_flight(run)}"


def cause_of_deaths(redis: Redis, process: str) -> str:
    """Return why work has failed whose workers died, with what is known of the last one."""
    text = f"its worker was killed {MAX_DEATHS} times"
    if (memory := last_memory(redis, process)) is None:
        return text
    peak, limit = memory
    text += f", the last time at {_shown(peak)} of {_shown(limit)}"
    return f"{text}: out of memory?" if peak > _LARGE_SHARE * limit else text


def _shown(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"

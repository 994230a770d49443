"""Waits that last as long as workers need for what they do periodically."""

from __future__ import annotations

from klinefleet.workers.domain.redis_keys import WORKERS
from tests.harness import Fleet
from tests.processes import until


def await_beats(fleet: Fleet, times: int) -> None:
    """Return once every lane has beaten so often.

    Between two beats it does its chores once, lost work among them.
    """
    with fleet.redis.client() as client:
        for _ in range(times):
            before = dict(client.zrange(WORKERS, 0, -1, withscores=True))
            until(
                "every lane beats",
                lambda before=before: all(
                    client.zscore(WORKERS, name) != lapses for name, lapses in before.items()
                ),
            )

"""Lakes with rows of the stand-in exchange, made without a fleet, and commands that read them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.registry import kind_named
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.storage.open import open_store
from tests.answers import covering
from tests.expected import Wanted, ms_of
from tests.harness import WARM


@dataclass(frozen=True)
class Lake:
    """A lake, and the environment in which commands read it."""

    store_url: str
    env: dict[str, str]
    folder: Path
    """Where commands run."""

    def klines(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return WARM.run(list(arguments), folder=self.folder, env=self.env, timeout_s=240)

    def read(self, *arguments: str) -> str:
        """Run `klines read`, which must succeed, and return what it printed."""
        done = self.klines("read", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def lake_of(store_url: str, folder: Path, held: Iterable[Wanted], **env: str) -> Lake:
    """Make a lake that holds all requested rows.

    `env` are settings of the commands that read it.
    """
    partitions = Partitions(open_store(store_url))
    for wanted in held:
        market, kind, interval = (
            Market(wanted.market),
            kind_named(wanted.kind),
            Interval(wanted.interval),
        )
        whole = Span(ms_of(wanted.start), ms_of(wanted.end))
        for symbol in wanted.symbols:
            rows, series = wanted.truth(symbol), Series(market, kind, interval, symbol)
            times = rows[kind.time_column].dt.timestamp("ms")
            for partition in series.partitions(whole):
                span = partition.span.clip(whole)
                within = (times >= span.start_ms) & (times < span.end_ms)
                partitions.merge(partition, rows.filter(within), covering(span))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KLINES_")}
    return Lake(store_url, {**clean, "KLINES_STORE_URL": store_url, **env}, folder)

"""`klines coverage` of a full lake: the first time, with cached footers, and as a chart."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.lake.coverage import Coverage
from klinefleet.workers.lake.footers.cache import FooterCache
from klinefleet.workers.storage.open import open_store
from tests.benchmarks.held_lake import INTERVALS, everything, keep
from tests.benchmarks.measure import show, timed
from tests.harness import KLINES


def coverage() -> None:
    """500 series × 60 months in a folder: the command, and the parts of its time."""
    for interval in INTERVALS:
        with tempfile.TemporaryDirectory(prefix="klines-bench-") as name:
            _coverage_of(interval, Path(name))


def _coverage_of(interval: Interval, folder: Path) -> None:
    for key, body in everything(interval):
        keep(folder / "s" / key, body)
    what = f"coverage of 500 series of {interval} × 60 months in a folder"
    for time in ("first", "second"):
        seconds, told = timed(lambda: _coverage(folder, "--json"))
        facts = json.loads(told)
        assert (len(facts["series"]), facts["complete"]) == (500, True)
        show(f"{what}, the {time} time", command_s=seconds)
    for picture in ("coverage.png", "coverage.html"):
        seconds, _ = timed(lambda picture=picture: _coverage(folder, "--json", "--plot", picture))
        show(
            f"{what}, drawn as {picture}",
            command_s=seconds,
            mb=(folder / picture).stat().st_size / 1e6,
        )
    _parts(folder)


def _parts(folder: Path) -> None:
    files, memory = open_store(str(folder / "s")), folder / "parts.sqlite"
    lake = Coverage(files, FooterCache("bench", memory))
    listing_s, entries = timed(lambda: lake.partitions("lake"))
    read_s, footers = timed(
        lambda: Coverage(files, FooterCache("bench", None)).footers_of(entries, lambda: entries)
    )
    keep_s, _ = timed(
        lambda: FooterCache("bench", memory).put((entry, footers[entry.key]) for entry in entries)
    )
    recall_s, _ = timed(lambda: FooterCache("bench", memory).get(entries))
    show(
        "of that",
        listing_s=listing_s,
        footers_read_s=read_s,
        footers_kept_s=keep_s,
        footers_recalled_s=recall_s,
    )


def _coverage(folder: Path, *options: str) -> str:
    own = {
        "KLINES_STORE_URL": str(folder / "s"),
        "XDG_CACHE_HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
    }
    command = [KLINES, "coverage", *options]
    done = subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

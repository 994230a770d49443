"""Reading while another process replaces partitions: no row twice, no half of a file."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import ManualClock
from tests.answers import footer_of
from tests.servers import ObjectStore
from tests.unit.helpers.small_lakes import reader, rows_at, series

ROOT = Path(__file__).parents[2]
MINUTES = series()
STEP_MS = MINUTES.interval.step_ms
HELD = Span(utc_ms(2024, 1), utc_ms(2024, 3))
NOW_MS = utc_ms(2024, 4)
#: What all rows of a month share that were written together.
GENERATION = "quote_volume"
GENERATIONS = 4
_NOISY = ("volume", "open", "high", "low", "close", "taker_buy_volume")
READINGS = 10

WRITER = """
import sys
from tests.integration.test_reading_under_compaction import replace_for_ever
replace_for_ever(sys.argv[1])
"""


def bodies(generation: int) -> dict[str, bytes]:
    """Return every month's partition of one generation; those of others have other sizes."""
    made = {}
    for partition in MINUTES.partitions(HELD):
        span = partition.span
        rows = rows_at(range(span.start_ms, span.end_ms, STEP_MS))
        # Too large to be fetched in one request, and nothing lies at the same place in two of them.
        noise = [
            (pl.col("open_time").hash(generation * 9 + n) % 10**9 / 7).alias(name)
            for n, name in enumerate(_NOISY)
        ]
        marked = rows.with_columns(
            pl.lit(float(generation)).alias(GENERATION), *noise[generation % 2 :]
        )
        made[keys.partition(partition)] = encode(marked, footer_of(span))
    return made


def replace_for_ever(store: str) -> None:
    """Replace the months in turn, as compactions do, but as fast as the store allows."""
    files, several = open_store(store), [bodies(generation) for generation in range(GENERATIONS)]
    etags: dict[str, str | None] = {}
    for generation in itertools.cycle(range(GENERATIONS)):
        for key, body in several[generation].items():
            files.publish(key, body, replaces=etags.get(key))
            etags[key] = files.etag(key)
        print(generation, flush=True)


@contextmanager
def replacing(store: str) -> Iterator[None]:
    """Have a process replace all partitions again and again."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, store], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout
        assert writer.stdout.readline() == b"0\n"
        drain = threading.Thread(target=writer.stdout.read)
        drain.start()
        yield
        assert writer.poll() is None, "the writer has ended"
    finally:
        writer.kill()
        writer.wait()
        drain.join()
        writer.stdout.close()


@pytest.fixture(params=["folder", "bucket"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "folder":
        yield str(tmp_path / "store")
        return
    with ObjectStore(tmp_path) as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield "s3://lake/under"


def generations(rows: pl.DataFrame) -> tuple[float, ...]:
    """Return the generation of each month, of which every row is there once."""
    times = rows["open_time"].dt.timestamp("ms")
    assert times.to_list() == list(range(HELD.start_ms, HELD.end_ms, STEP_MS))
    by_month = rows.group_by(pl.col("open_time").dt.truncate("1mo"), maintain_order=True)
    seen = by_month.agg(pl.col(GENERATION).unique())
    assert seen[GENERATION].list.len().to_list() == [1, 1], (
        f"rows of two versions in one month: {seen}"
    )
    return tuple(seen[GENERATION].list.first())


def test_no_reading_mixes_what_was_replaced_with_what_replaced_it(
    store: str, tmp_path: Path
) -> None:
    lakes = {
        "scan": lambda: reader(store, NOW_MS).scan("um", "BTCUSDT", "1m").collect(),
        "read": lambda: reader(store, NOW_MS).read("um", "BTCUSDT", "1m"),
        "cached": lambda: Reader(store, cache=cache, clock=ManualClock(NOW_MS)).read(
            "um", "BTCUSDT", "1m"
        ),
        "kept lazy": lambda: lazy.collect(),
    }
    cache = ArrowCache(tmp_path / "partitions")
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in lakes}
    with replacing(store):
        lazy = reader(store, NOW_MS).scan("um", "BTCUSDT", "1m")
        for _ in range(READINGS):
            for name, read in lakes.items():
                seen[name].append(generations(read()))
    for name, several in seen.items():
        assert len(set(several)) > 1, f"{name} saw too little replaced to prove anything"

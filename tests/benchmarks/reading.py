"""The reader against Polars on the same rows: from a folder, a bucket and the cache."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import polars as pl
import pytest

from klinefleet.workers.domain.intervals import Interval, months_of
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.proof import prove
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.storage.objects import ObjectStore as Objects
from klinefleet.workers.storage.open import open_store
from tests.answers import footer_of
from tests.benchmarks.measure import YEAR_KLINES, YEAR_MS, show, timed
from tests.expected import s3_options
from tests.processes import ask
from tests.servers import ObjectStore
from tests.unit.helpers.small_lakes import rows_at

YEAR = Span(*YEAR_MS)
SYMBOLS = [Series(Market.SPOT, KLINES, Interval.M1, name) for name in ("BTCUSDT", "ETHUSDT")]
COLUMNS = ["open_time", "close"]
ROUNDS = 25
#: What grows in a process that reads a year a second time by way of the cache, after it has read
#: another symbol so.
_MAPPED = """
import json, sys
from klinefleet import Reader

def resident():
    lines = [line.split(":") for line in open("/proc/self/status")]
    sizes = {name: size for name, size in lines if name.startswith(("VmRSS", "Rss"))}
    return {name: int(kilobytes.split()[0]) / 1000 for name, kilobytes in sizes.items()}

lake = Reader(sys.argv[1])
other = lake.read("spot", "ETHUSDT", "1m")
before = resident()
rows = lake.read("spot", "BTCUSDT", "1m")
after = resident()
grown = {name: after[name] - before[name] for name in after}
print(json.dumps({"data_mb": rows.estimated_size() / 1e6, **grown}))
"""


def reading() -> None:
    """A symbol-year: lazily from a folder and from a bucket, then whole by way of the cache."""
    with _own_cache() as folder:
        lake = str(folder / "lake")
        files = open_store(lake)
        for month, span in months_of(YEAR):
            for series in SYMBOLS:
                files.put(keys.partition(Partition(series, month)), _body(span))
        _from_a_folder(lake, folder / "one.parquet")
        with ObjectStore(folder) as store, _reaching(store):
            _copy(files, open_store("s3://bench/lake"))
            _from_a_bucket("s3://bench/lake", store)
            _by_way_of_the_cache("s3://bench/lake")
        if real := os.environ.get("KLINES_BENCH_BUCKET"):
            # A real server, by the AWS_* variables of whoever runs this.
            _copy(files, open_store(f"s3://{real}/bench"))
            _from_a_bucket(f"s3://{real}/bench", None)
            _by_way_of_the_cache(f"s3://{real}/bench")


def fifty_days() -> None:
    """One day of each of fifty symbol-years in a bucket, by a reader that knows nothing yet."""
    bodies = {month: _body(span) for month, span in months_of(YEAR)}
    with _own_cache() as folder, ObjectStore(folder) as store, _reaching(store):
        files, symbols = open_store("s3://bench/fifty"), [f"SIM{n:02}USDT" for n in range(50)]
        for symbol in symbols:
            for month, body in bodies.items():
                files.put(
                    keys.partition(
                        Partition(Series(Market.SPOT, KLINES, Interval.M1, symbol), month)
                    ),
                    body,
                )
        ask(f"{store.url}/-/requests", "DELETE")
        lake = Reader("s3://bench/fifty")
        seconds, rows = timed(lambda: lake.read("spot", symbols, "1m", "2024-06-10", "2024-06-11"))
        assert rows.height == len(symbols) * 1440
        # Of each partition first the footer is asked for, to know what it covers, then the object.
        show(
            "one day of fifty symbol-years in a bucket",
            read_s=seconds,
            partitions=len(lake.report.parts),
            **store.requests(),
        )


def eight_years() -> None:
    """Eight years of 1m of one symbol in 96 monthly objects, against eight yearly ones."""
    with _own_cache() as folder, ObjectStore(folder) as store, _reaching(store):
        files, series = open_store("s3://bench/years"), SYMBOLS[0]
        yearly = []
        for year in range(2017, 2025):
            span = Span(utc_ms(year), utc_ms(year + 1))
            for month, of_month in months_of(span):
                files.put(keys.partition(Partition(series, month)), _body(of_month))
            files.put(f"yearly/{year}.parquet", _body(span))
            yearly.append(files.address(f"yearly/{year}.parquet"))
        lake = Reader("s3://bench/years", cache=False)
        for name, read in {
            "96 months": lambda: lake.scan("spot", "BTCUSDT", "1m", columns=COLUMNS).collect(),
            "8 years": lambda: (
                pl.scan_parquet(yearly, storage_options=s3_options()).select(COLUMNS).collect()
            ),
        }.items():
            first_s, rows = timed(read)
            ask(f"{store.url}/-/requests", "DELETE")
            seconds, _ = timed(read)
            show(
                f"eight years of 1m from a bucket: {name}",
                first_s=first_s,
                again_s=seconds,
                rows=rows.height,
                **store.requests(),
            )


def _from_a_folder(store: str, one: Path) -> None:
    lake, year = Reader(store), ("spot", "BTCUSDT", "1m", "2024-01-01", "2025-01-01")
    lake.read(*year).write_parquet(one)
    _compared(
        "scan of a symbol-year, two columns, from a folder",
        lambda: lake.scan(*year, columns=COLUMNS).collect(),
        one_file=lambda: pl.scan_parquet(one).select(COLUMNS).collect(),
        same_files=lambda: pl.scan_parquet(_files(store)).select(COLUMNS).collect(),
    )


def _from_a_bucket(store_url: str, store: ObjectStore | None) -> None:
    files = open_store(store_url)
    objects = [files.address(entry.key) for entry in files.list("lake") if "BTCUSDT" in entry.key]
    lake = Reader(store_url)
    _compared(
        f"scan of a symbol-year, two columns, from a bucket ({'stand-in' if store else 'real'})",
        lambda: lake.scan("spot", "BTCUSDT", "1m", columns=COLUMNS).collect(),
        same_objects=lambda: (
            pl.scan_parquet(objects, storage_options=s3_options()).select(COLUMNS).collect()
        ),
    )


def _by_way_of_the_cache(store_url: str) -> None:
    year = ("spot", "BTCUSDT", "1m")
    firsts, seconds = [], []
    for _ in range(5):
        shutil.rmtree(
            Path(os.environ["XDG_CACHE_HOME"]) / "klinefleet" / "partitions", ignore_errors=True
        )
        lake = Reader(store_url)
        firsts.append(timed(lambda lake=lake: lake.read(*year))[0])
        seconds.append(timed(lambda lake=lake: lake.read(*year))[0])
    assert lake.read(*year).height == YEAR_KLINES
    first_s, second_s = statistics.median(firsts), statistics.median(seconds)
    show(
        "read of a symbol-year by way of the cache",
        first_s=first_s,
        second_s=second_s,
        ratio=first_s / second_s,
    )
    lake.read("spot", "ETHUSDT", "1m")
    grown = subprocess.run(
        [sys.executable, "-c", _MAPPED, store_url], check=True, capture_output=True, text=True
    ).stdout
    show("what a process grows by when it reads the year from the cache", **json.loads(grown))


def _compared(
    name: str, ours: Callable[[], pl.DataFrame], **others: Callable[[], pl.DataFrame]
) -> None:
    """Show the seconds of each, taken in turns, and ours as a multiple of each of the others."""
    runs, took = {"ours": ours, **others}, {name: list[float]() for name in ("ours", *others)}
    for _ in range(ROUNDS):
        for of, run in runs.items():
            seconds, rows = timed(run)
            assert rows.height == YEAR_KLINES
            took[of].append(seconds)
    medians = {of: statistics.median(several) for of, several in took.items()}
    ratios = {f"times {of}": medians["ours"] / medians[of] for of in others}
    show(name, **{f"{of}_ms": 1000 * seconds for of, seconds in medians.items()}, **ratios)


def _files(store_url: str) -> list[Path]:
    return sorted(Path(store_url).glob("lake/**/symbol=BTCUSDT/*.parquet"))


def _body(span: Span) -> bytes:
    """Return a month of 1m candles that compresses as badly as BTCUSDT: 1.7 MB, not 2.0."""
    rows = rows_at(range(span.start_ms, span.end_ms, 60_000))
    floats = [name for name, dtype in rows.schema.items() if dtype == pl.Float64]
    noise = (
        (pl.col("open_time").hash(n) % 10**6 / 100).alias(name) for n, name in enumerate(floats)
    )
    rows = rows.with_columns(noise)
    return encode(rows, footer_of(span, proof=prove(SYMBOLS[0], rows, (span,))))


def _copy(source: Objects, target: Objects) -> None:
    for entry in source.list("lake"):
        target.put(entry.key, source.read(entry.key) or b"")


@contextmanager
def _own_cache() -> Iterator[Path]:
    """Give a folder in which also what this machine remembers is kept."""
    with (
        tempfile.TemporaryDirectory(prefix="klines-bench-") as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_CACHE_HOME", str(Path(name) / "cache"))
        yield Path(name)


@contextmanager
def _reaching(store: ObjectStore) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        yield

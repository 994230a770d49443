"""The cache returns exactly the version that was put, mapped; its faults are cache misses."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.storage.objects import StoredObject
from tests.processes import until
from tests.unit.helpers.klines import frame, minutes, opens

STORE = "s3://lake"
ROWS = frame(opens(minutes(0, 500)))
#: More bytes than one file of them, fewer than two.
FILE_BYTES = 60_000
ROOT = Path(__file__).parents[3]


def entry(etag: str = "e1", key: str = "lake/a/2024-01.parquet") -> StoredObject:
    return StoredObject(key, etag, 1)


@pytest.fixture
def cache(tmp_path: Path) -> ArrowCache:
    return ArrowCache(tmp_path / "cache")


def files(cache: ArrowCache) -> list[Path]:
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def test_cached_rows_are_returned(cache: ArrowCache) -> None:
    assert cache.get(STORE, entry()) is None
    assert_frame_equal(cache.put(STORE, entry(), ROWS), ROWS)
    held = cache.get(STORE, entry())
    assert held is not None
    assert_frame_equal(held, ROWS)
    assert cache.has(STORE, entry())


def test_another_version_of_a_partition_is_a_miss(cache: ArrowCache) -> None:
    cache.put(STORE, entry("e1"), ROWS)
    assert cache.get(STORE, entry("e2")) is None
    assert cache.get("s3://other", entry("e1")) is None
    assert cache.get(STORE, entry("e1", "lake/b/2024-01.parquet")) is None


def test_a_partition_without_rows_is_cached_too(cache: ArrowCache) -> None:
    cache.put(STORE, entry(), ROWS.clear())
    held = cache.get(STORE, entry())
    assert held is not None
    assert (held.height, held.schema) == (0, ROWS.schema)


def test_the_least_recently_used_file_goes_first(tmp_path: Path) -> None:
    cache = ArrowCache(tmp_path, max_bytes=3 * FILE_BYTES)
    for n in range(3):
        cache.put(STORE, entry(f"e{n}"), ROWS)
        os.utime(cache._path(STORE, entry(f"e{n}")), (n, n))
    assert all(path.stat().st_size <= FILE_BYTES for path in files(cache))
    cache.get(STORE, entry("e0"))
    cache.put(STORE, entry("e3"), ROWS)
    cache.make_room()
    assert [cache.has(STORE, entry(f"e{n}")) for n in range(4)] == [True, False, True, True]
    assert sum(path.stat().st_size for path in files(cache)) <= cache.max_bytes


def test_mapped_rows_outlive_their_file(tmp_path: Path) -> None:
    cache = ArrowCache(tmp_path, max_bytes=0)
    held = cache.put(STORE, entry(), ROWS)
    cache.make_room()
    assert files(cache) == []
    assert_frame_equal(held, ROWS)


@pytest.mark.parametrize("left", [0, 5, 2000, 40_000])
def test_a_truncated_file_is_removed_and_a_miss(cache: ArrowCache, left: int) -> None:
    cache.put(STORE, entry(), ROWS)
    [path] = files(cache)
    path.write_bytes(path.read_bytes()[:left])
    assert cache.get(STORE, entry()) is None
    assert files(cache) == []
    assert_frame_equal(cache.put(STORE, entry(), ROWS), ROWS)


def test_a_cache_that_cannot_be_written_misses_always(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ArrowCache(tmp_path / "file" / "cache")
    assert_frame_equal(cache.put(STORE, entry(), ROWS), ROWS)
    assert cache.get(STORE, entry()) is None
    cache.make_room()


def test_a_killed_writers_file_is_never_read_and_removed_after_an_hour(
    cache: ArrowCache,
) -> None:
    cache.put(STORE, entry(), ROWS)
    [path] = files(cache)
    temp_path = path.with_name(f".{path.name}.{'f' * 32}")
    temp_path.write_bytes(path.read_bytes()[:2000])
    path.unlink()
    assert cache.get(STORE, entry()) is None
    cache.make_room()
    assert temp_path.exists(), "its writer may still be alive"
    os.utime(temp_path, (time.time() - 7200,) * 2)
    cache.make_room()
    assert not temp_path.exists()


def _hammer(folder: str, seed: int) -> None:
    cache = ArrowCache(Path(folder), max_bytes=4 * FILE_BYTES)
    for n in range(60):
        one = entry(f"e{(n * 7 + seed) % 9}")
        held = cache.get(STORE, one)
        held = cache.put(STORE, one, ROWS) if held is None else held
        cache.make_room()
        if not held.equals(ROWS):
            os._exit(1)


def test_several_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    crowd = [context.Process(target=_hammer, args=[str(tmp_path), seed]) for seed in range(3)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(120)
    assert [one.exitcode for one in crowd] == [0, 0, 0]
    assert (
        sum(path.stat().st_size for path in files(ArrowCache(tmp_path)))
        <= 4 * FILE_BYTES + 3 * FILE_BYTES
    )


WRITER = """
import sys
from pathlib import Path
from tests.unit.reader.test_arrow_cache import ROWS, STORE, entry
from klinefleet.workers.reader.arrow_cache import ArrowCache
cache = ArrowCache(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    cache.put(STORE, entry(f"e{n % 5}"), ROWS)
    n += 1
"""


@contextmanager
def writing(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that caches partitions until it is killed."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
        yield writer
    finally:
        writer.kill()
        writer.communicate()


def test_a_cache_whose_writers_are_killed_never_returns_half_a_file(
    tmp_path: Path,
) -> None:
    cache = ArrowCache(tmp_path)
    for last in range(3):
        with writing(tmp_path):
            until("a file is there", lambda last=last: cache.has(STORE, entry(f"e{last}")))
        for n in range(5):
            held = cache.get(STORE, entry(f"e{n}"))
            assert held is None or held.equals(ROWS)


def test_the_cache_is_below_XDG_CACHE_HOME(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert ArrowCache().folder == Path("/somewhere/klinefleet/partitions")


def test_rows_are_mapped_not_copied(cache: ArrowCache) -> None:
    """The rows are the bytes of the file: what is written to the file shows in them."""
    rows = pl.concat([ROWS] * 40)
    held = cache.put(STORE, entry(), rows)
    before = held["close"][0]
    [path] = files(cache)
    body = path.read_bytes()
    wanted = held["close"].head(64).to_list()
    at = body.index(
        pl.Series(wanted, dtype=pl.Float64).reinterpret(dtype=pl.UInt64).to_numpy().tobytes()
    )
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(8))
    assert before != 0
    assert held["close"][0] == 0.0

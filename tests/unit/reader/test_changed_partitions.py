"""Partitions that are damaged or replaced while they are read: no wrong row is returned."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS
from klinefleet.workers.lake import keys
from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.reader.partition_reader import PartitionReader
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import ManualClock
from tests.unit.helpers.small_lakes import (
    JANUARY,
    NOW_MS,
    TWO_MONTHS,
    hold_all,
    hours,
    reader,
)


@pytest.mark.parametrize("part", ["rows", "footer"])
def test_a_damaged_partition_is_named(store: Path, held: pl.DataFrame, part: str) -> None:
    path = store / keys.partition(Partition(hours(), "2024"))
    body = path.read_bytes()
    at = 2000 if part == "rows" else len(body) - 500
    path.write_bytes(body[:at] + bytes(400) + body[at + 400 :])
    with pytest.raises(PartitionDamaged, match=r"BTCUSDT/2024\.parquet: it"):
        reader(store).read("um", "BTCUSDT", "1h")
    with pytest.raises(Exception, match=r"BTCUSDT/2024\.parquet: it"):
        reader(store).scan("um", "BTCUSDT", "1h").collect()


def test_a_value_changed_on_disk_is_never_read_through_the_cache(
    store: Path, held: pl.DataFrame
) -> None:
    path = store / keys.partition(Partition(hours(), "2024"))
    metadata = {
        k: v for k, v in pl.read_parquet_metadata(path).items() if k.startswith("klinefleet")
    }
    price = (
        pl.when(pl.col("close") == pl.col("close").max())
        .then(1.0)
        .otherwise(pl.col("close"))
        .alias("close")
    )
    pl.read_parquet(path).with_columns(price).write_parquet(path, metadata=metadata)
    lake = Reader(
        str(store), cache=ArrowCache(store.parent / "partitions"), clock=ManualClock(NOW_MS)
    )
    with pytest.raises(
        PartitionDamaged, match=r"2024\.parquet: its rows are not those that were proved"
    ):
        lake.read("um", "BTCUSDT", "1h")


def test_a_partition_with_other_columns_is_not_mixed_with_ours(
    store: Path, held: pl.DataFrame
) -> None:
    path = store / keys.partition(Partition(hours(), "2024"))
    metadata = pl.read_parquet_metadata(path)
    rows = pl.read_parquet(path).with_columns(pl.col("count").cast(pl.Float64))
    rows.write_parquet(
        path, metadata={k: v for k, v in metadata.items() if k.startswith("klinefleet")}
    )
    with pytest.raises(PartitionDamaged, match=r"2024\.parquet: its columns are"):
        reader(store).read("um", "BTCUSDT", "1h")


def test_what_is_replaced_while_it_is_read_is_read_again(store: Path, held: pl.DataFrame) -> None:
    """Polars opens a file more than once: between two of them it may be replaced."""
    readings, newer = list[pl.DataFrame](), list[pl.DataFrame]()

    def replaced(rows: pl.DataFrame) -> pl.DataFrame:
        readings.append(rows)
        if len(readings) == 1:
            newer.append(hold_all(store, hours(), TWO_MONTHS, salt=0.25))
        return rows

    partitions = PartitionReader(open_store(str(store)), str(store), cache=None)
    listed = partitions.list(hours(), TWO_MONTHS)
    read = partitions.query(listed, lambda rows: rows.map_batches(replaced))
    assert len(readings) == 2
    assert_frame_equal(read, newer[0])


def test_what_is_replaced_at_every_scan_is_read_as_a_whole(store: Path, held: pl.DataFrame) -> None:
    salts = itertools.count(1)

    def replaced(rows: pl.DataFrame) -> pl.DataFrame:
        hold_all(store, hours(), TWO_MONTHS, salt=next(salts) / 8)
        return rows

    partitions = PartitionReader(open_store(str(store)), str(store), cache=None)
    listed = partitions.list(hours(), TWO_MONTHS)
    read = partitions.query(listed, lambda rows: rows.map_batches(replaced))
    assert next(salts) == 5, "three scans, and the reading that cannot fail"
    assert read["open_time"].to_list() == held["open_time"].to_list()
    assert read.select((pl.col("close") - held["close"]).n_unique()).item() == 1, (
        "rows of two versions"
    )


def test_a_restored_partition_is_not_read_with_the_footer_of_its_replacement(
    store: Path, held: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a repair: the footer was read of another version than the listed one."""
    path, aside = store / keys.partition(Partition(hours(), "2024")), store / "aside"
    os.link(path, aside)
    lake = reader(store)
    footers_of = lake._lookup._coverage.footers_of

    def replaced(*args: Any) -> Any:
        path.unlink()
        hold_all(store, hours(), Span(JANUARY, JANUARY + 9 * HOUR_MS))
        return footers_of(*args)

    with monkeypatch.context() as patch:
        patch.setattr(lake._lookup._coverage, "footers_of", replaced)
        lake.read("um", "BTCUSDT", "1h", partial=True)
    aside.replace(path)
    assert_frame_equal(lake.read("um", "BTCUSDT", "1h", "2023-12-01", "2024-02-01"), held)

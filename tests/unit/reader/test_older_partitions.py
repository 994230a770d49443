"""A partition of an earlier version that lacks a column can be read and extended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from klinefleet.workers.domain.errors import PartitionDamaged
from klinefleet.workers.domain.kinds.declaration import Column, ColumnType
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import HOUR_MS, utc_ms
from klinefleet.workers.lake import keys
from klinefleet.workers.lake.footers.proof import prove
from klinefleet.workers.lake.partition_codec import encode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.reader.arrow_cache import ArrowCache
from klinefleet.workers.reader.reader import Reader
from klinefleet.workers.reader.sql import create_view_sql
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.clock import ManualClock
from tests.answers import covering, footer_of
from tests.unit.helpers.small_lakes import NOW_MS, hold, rows_at, series

MINUTES = series()
JANUARY, FEBRUARY = (
    Span(start_ms, start_ms + HOUR_MS) for start_ms in (utc_ms(2024, 1), utc_ms(2024, 2))
)
LACKING = "count"


def minutes_in(span: Span) -> pl.DataFrame:
    return rows_at(range(span.start_ms, span.end_ms, 60_000))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A lake with a partition of an earlier version for January, and one of today for February."""
    store = tmp_path / "store"
    older = minutes_in(JANUARY).drop(LACKING)
    footer = footer_of(JANUARY, proof=prove(MINUTES, older, [JANUARY]))
    open_store(str(store)).put(keys.partition(Partition(MINUTES, "2024-01")), encode(older, footer))
    hold(store, MINUTES, minutes_in(FEBRUARY), [FEBRUARY])
    return store


def with_null(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(None, pl.Int64).alias(LACKING))


@pytest.mark.parametrize("is_cached", [False, True])
def test_what_an_older_partition_lacks_is_null_and_nothing_else_changes(
    store: Path, tmp_path: Path, is_cached: bool
) -> None:
    cache = ArrowCache(tmp_path / "cache") if is_cached else False
    lake = Reader(str(store), cache=cache, clock=ManualClock(NOW_MS))
    wanted = pl.concat([with_null(minutes_in(JANUARY)), minutes_in(FEBRUARY)])
    for _ in range(2):
        found = lake.read("um", "BTCUSDT", "1m", partial=True)
        assert_frame_equal(found, wanted)
        scanned = lake.scan("um", "BTCUSDT", "1m", partial=True)
        assert_frame_equal(
            scanned.select("open_time", LACKING).collect(), wanted.select("open_time", LACKING)
        )


def test_an_older_partition_is_extended_and_keeps_its_values(store: Path) -> None:
    lake = Partitions(open_store(str(store)))
    next_hour = Span(JANUARY.end_ms, JANUARY.end_ms + HOUR_MS)
    merged = lake.merge(Partition(MINUTES, "2024-01"), minutes_in(next_hour), covering(next_hour))
    assert (merged.gained, merged.changed) == (60, 0)
    wanted = pl.concat([with_null(minutes_in(JANUARY)), minutes_in(next_hour)])
    assert_frame_equal(lake.rows(Partition(MINUTES, "2024-01")), wanted)


def test_sql_reads_an_older_partition_beside_one_of_today(store: Path) -> None:
    added = Column(LACKING, ColumnType.INT, may_be_null=True, is_added=True)
    columns = (added if column.name == LACKING else column for column in KLINES.columns)
    with duckdb.connect() as database:
        database.execute(create_view_sql(f"{store}/lake", replace(KLINES, columns=tuple(columns))))
        counted = database.execute(f"SELECT count(*), count({LACKING}) FROM klines").fetchone()
    assert counted == (120, 60)


def test_a_partition_without_its_time_is_damaged(store: Path) -> None:
    key = keys.partition(Partition(MINUTES, "2024-01"))
    open_store(str(store)).put(
        key, encode(minutes_in(JANUARY).drop("open_time"), footer_of(JANUARY))
    )
    with pytest.raises(PartitionDamaged, match="its columns are"):
        Partitions(open_store(str(store))).merge(
            Partition(MINUTES, "2024-01"), minutes_in(JANUARY), covering(JANUARY)
        )
